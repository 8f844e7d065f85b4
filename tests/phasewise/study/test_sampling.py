"""Samplers ask for the same again when they are told the same again, and learn of failures."""

from __future__ import annotations

import math
from importlib import import_module

import pytest

from phasewise.errors import UserError
from phasewise.study.journal import SearchPlan
from phasewise.study.sampling import Sampler, check_sampler
from phasewise.study.search_settings import SAMPLERS, Search
from phasewise.study.space import Space, read_space

SPACE = read_space(
    ["lr=tag(log,interval(1e-5,1e-1))", "depth=int(interval(1,8))", "width=interval(0,1)", "n=a,b"]
)
PACKAGES = {"gp": "torch", "cmaes": "cmaes"}


def installed(sampler: str) -> bool:
    try:
        import_module(PACKAGES.get(sampler, "optuna"))
    except ImportError:  # also torch, where it is refused
        return False
    return True


def asked(sampler: str, seed: int, mode: str, trials: int = 24, batch: int = 4) -> list[list[str]]:
    """Everything that is asked for; half of all n=b fail."""
    plan = SearchPlan(sampler, trials, startup=6, seed=seed)
    mine, found = Sampler(plan, SPACE, mode), []
    sign = 1 if mode == "max" else -1
    for first in range(0, trials, batch):
        asked = [mine.ask() for _ in range(batch)]
        for number, values in asked:
            found.append([one.word(values[one.name]) for one in SPACE.dimensions])
            score = -abs(math.log10(float(values["lr"])) + 3) - abs(float(values["width"]) - 0.3)
            fails = values["n"] == "n=b" and (number + first) % 2
            mine.tell(number, None if fails else sign * score)
    return found


@pytest.mark.parametrize(
    "sampler",  # quick tests of this room are run without torch, the slow ones with it
    [pytest.param(it, marks=pytest.mark.slow if it in PACKAGES else ()) for it in SAMPLERS],
)
def test_the_same_seed_and_results_ask_for_the_same(sampler: str) -> None:
    if not installed(sampler):
        pytest.skip(f"{PACKAGES[sampler]} is not installed")
    first = asked(sampler, 0, "max")
    assert asked(sampler, 0, "max") == first
    assert asked(sampler, 1, "max") != first
    assert asked(sampler, 0, "min") == first  # of what is turned round


def test_those_that_learn_come_closer() -> None:
    def distance(sampler: str) -> float:
        last = [float(it[0].partition("=")[2]) for it in asked(sampler, 0, "max", 60, 1)[-20:]]
        return sum(abs(math.log10(lr) + 3) for lr in last) / 20

    assert distance("tpe") < 0.6 * distance("random")


def test_what_failed_is_the_worst_there_is() -> None:
    mine = Sampler(SearchPlan("random", 9), SPACE, "max")
    numbers = [mine.ask()[0] for _ in range(4)]
    for number, value in zip(numbers, (None, 0.5, 0.2, math.nan), strict=True):
        mine.tell(number, value)
    trials = mine._study.trials
    assert [it.state.name for it in trials] == ["FAIL", *["COMPLETE"] * 3]
    assert [it.value for it in trials[1:]] == [0.5, 0.2, 0.2]


def test_a_covariance_needs_two_numbers() -> None:
    check_sampler("cmaes", SPACE)
    with pytest.raises(UserError, match="two numbers must be searched"):
        check_sampler("cmaes", Space([], SPACE.dimensions[2:]))


def test_of_few_trials_a_third_is_drawn_at_random() -> None:
    def startup(**given: object) -> int:
        return Search.model_validate({"sampler": "tpe", **given}).at_random

    assert [startup(trials=n) for n in (1, 6, 30, 100)] == [1, 2, 10, 10]
    assert startup(trials=30, startup=4) == 4
    assert Search.model_validate({"sampler": "qmc", "trials": 9}).at_random == 0


def test_what_a_sampler_needs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasewise.study.search_settings.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package torch: pip install 'phasewise.vision"):
        Search.model_validate({"sampler": "gp", "trials": 9})
    with pytest.raises(ValueError, match=r"needs the package cmaes: .*phasewise\[cmaes"):
        Search.model_validate({"sampler": "cmaes", "trials": 9})

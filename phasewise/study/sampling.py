"""Asks one of Optuna's samplers for configurations and tells it what came of them.

The state is in memory and follows from the seed and what was asked and told, in that order: nothing
is kept between calls of a study but the records of its runs.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from phasewise.errors import Problem, UserError
from phasewise.study.space import Space, Value, draw_value

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

    from phasewise.study.journal import SearchPlan

LEAST_OPTUNA = 4
"""The major version whose samplers take a seed, count what runs and know no deprecated words."""

Values = dict[str, Value]


def library() -> str:
    """Which version asks: another one may ask for other trials."""
    return f"optuna {version('optuna')}"


def check_sampler(sampler: str, space: Space) -> None:
    """See that a sampler can search a space.

    Raises:
        UserError: it cannot, and why.
    """
    reason = ""
    if int(version("optuna").partition(".")[0]) < LEAST_OPTUNA:
        reason = f"needs optuna {LEAST_OPTUNA} or later, and {version('optuna')} is installed"
    numbers = [one for one in space.dimensions if one.kind != "choice"]
    if sampler == "cmaes" and len(numbers) < 2:
        reason = "adapts a covariance, for which two numbers must be searched (interval, range)"
    if reason:
        raise UserError(problems=[Problem(f"search.sampler={sampler}", reason)])


class Sampler:
    """A sampler with what it was asked and told.

    Args:
        plan: which sampler, and its seed.
        space: where it searches.
        mode: ``max`` or ``min``.
    """

    def __init__(self, plan: SearchPlan, space: Space, mode: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._dimensions = {one.name: one for one in space.dimensions}
        self._distributions = {one.name: one.distribution() for one in space.dimensions}
        self._study = optuna.create_study(
            sampler=_sampler(plan), direction="maximize" if mode == "max" else "minimize"
        )
        self._sign = 1.0 if mode == "max" else -1.0
        self._worst: float | None = None
        self._trials: dict[int, Trial] = {}
        self._draw = random.Random(plan.seed)

    def ask(self, wanted: Mapping[str, Value] | None = None) -> tuple[int, Values]:
        """A configuration: its number, by which the result is told, and its values by key.

        Args:
            wanted: these values, which the sampler learns from and has not chosen.
        """
        with warnings.catch_warnings(action="ignore"):
            if wanted is not None:
                self._study.enqueue_trial(dict(wanted))
            trial = self._study.ask(self._distributions)
        self._trials[trial.number] = trial
        return trial.number, dict(trial.params)

    def tell_stopped(self, number: int, value: float, rung: int) -> None:
        """The objective of a configuration where halving stopped it: one that came further is
        better, whatever its value."""
        import optuna

        with warnings.catch_warnings(action="ignore"):
            if math.isfinite(value):
                self._trials[number].report(value, rung)
            self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def tell(self, number: int, value: float | None) -> None:
        """The objective of a configuration, or ``None`` where it has none.

        A sampler must learn that something failed, or it asks for the like again: it is told the
        worst result so far, and nothing while there is none.
        """
        import optuna

        if value is not None and math.isfinite(value):
            known = [it for it in (self._worst, value) if it is not None]
            self._worst = min(known, key=lambda it: self._sign * it)
        else:
            value = self._worst
        with warnings.catch_warnings(action="ignore"):
            if value is None:
                self._study.tell(number, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(number, value)

    def at_random(self) -> Values:
        """A configuration that no result has led to."""
        return {name: draw_value(one, self._draw) for name, one in self._dimensions.items()}


def _sampler(plan: SearchPlan) -> BaseSampler:
    with warnings.catch_warnings(action="ignore"):  # some of them are called experimental
        return _made(plan)


def _made(plan: SearchPlan) -> BaseSampler:
    from optuna import samplers

    common: dict[str, Any] = {"seed": plan.seed}
    learning = common | {"n_startup_trials": plan.startup}
    match plan.sampler:
        case "tpe":
            return samplers.TPESampler(multivariate=True, constant_liar=True, **learning)
        case "gp":
            return samplers.GPSampler(**learning)
        case "cmaes":  # choices are drawn at random beside the numbers
            return samplers.CmaEsSampler(warn_independent_sampling=False, **learning)
        case "qmc":
            return samplers.QMCSampler(scramble=True, warn_independent_sampling=False, **common)
        case _:
            return samplers.RandomSampler(**common)

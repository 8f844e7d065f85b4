"""Which published values a study may state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from phasewise.config.schema import fractions_of, metrics_of
from phasewise.errors import UserError
from phasewise.study.journal import Candidate, Phase
from phasewise.study.published import check_published, named_settings

GOAL = {"metric": "val/mAP", "mode": "max"}
GRID = Phase(
    "grid",
    "grid",
    GOAL,
    [0],
    base=["model.depth=3"],
    declared={"optimizer.lr": ["1e-3", "1e-2"], "data.augment": ["[]", "[flip]"]},
    candidates=[
        Candidate([f"optimizer.lr={lr}", f"data.augment={augment}"])
        for lr in ("1e-3", "1e-2")
        for augment in ("[]", "[flip]")
    ],
)
DRAWN = Phase(
    "drawn",
    "grid",
    GOAL,
    [0],
    declared={"optimizer.lr": ["1e-3", "1e-2"]},
    candidates=[Candidate(["optimizer.lr=1e-3"])],
    sampled_from=2,
)
AGAIN = Phase("again", "rerun", GOAL, [0])


def check(phase: str, words: str, metric: str = "mAP", changed: tuple[str, ...] = ()) -> None:
    published = {phase: {words: {metric: 0.5}}}
    check_published(published, [GRID, DRAWN, AGAIN], ["mAP", "rank1"], changed)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("grid", "optimizer.lr=0.001 data.augment=[]"),
        ("grid", "data.augment=[flip] optimizer.lr=1e-2"),
        ("drawn", "optimizer.lr=0.01"),  # of the grid, though it was not drawn
    ],
)
def test_a_candidate_is_known_by_its_values(phase: str, words: str) -> None:
    check(phase, words)


@pytest.mark.parametrize(
    ("phase", "words", "told"),
    [
        ("gird", "optimizer.lr=1e-3", "not one of grid, drawn, again; did you mean grid?"),
        ("grid", "optimizer.lr=3e-3", "optimizer.lr=0.003 is not tried: not one of 0.001, 0.01"),
        ("grid", "optimizr.lr=1e-3", "does not vary optimizr.lr; did you mean optimizer.lr?"),
        ("grid", "optimizer.lr=1e-3", "2 of the candidates of phase grid have it"),
        ("grid", "optimizer.lr=1e-3,1e-2", "must be the overrides of a candidate"),
        ("grid", "a 'quote", "must be the overrides of a candidate"),
        ("again", "optimizer.lr=1e-3", "a rerun chooses its configurations by itself"),
    ],
)
def test_what_nobody_tries_is_refused(phase: str, words: str, told: str) -> None:
    with pytest.raises(UserError, match=r"study\.published\.") as caught:
        check(phase, words)
    assert told in str(caught.value)


def test_a_phase_that_was_rewritten_need_not_have_them() -> None:
    check("grid", "optimizer.lr=3e-3", changed=("grid",))
    with pytest.raises(UserError, match="overrides of a candidate"):
        check("grid", "nonsense", changed=("grid",))


def test_metrics_are_those_of_the_task() -> None:
    with pytest.raises(UserError, match="not one of mAP, rank1; did you mean rank1"):
        check("drawn", "optimizer.lr=1e-3", "rank-1")
    # where the task does not say what it measures, any name will do
    check_published({"drawn": {"optimizer.lr=1e-3": {"x": 1.0}}}, [DRAWN], [], [])


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_fractions_are_what_lies_within_0_and_1(value: float) -> None:
    published = {"drawn": {"optimizer.lr=1e-3": {"mAP": value, "loss": 100 * value}}}
    check_published(published, [DRAWN], ["mAP", "loss"], [], fractions=["mAP"])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (78.5, "mAP=78.5: must be a fraction within 0 and 1, not percent: 0.785"),
        (100, "mAP=100: must be a fraction within 0 and 1, not percent: 1"),
        (785, "mAP=785: must be a fraction within 0 and 1, not percent"),
        (-0.1, "mAP=-0.1: must be a fraction within 0 and 1, not percent"),
    ],
)
def test_percent_is_refused(value: float, told: str) -> None:
    published = {"drawn": {"optimizer.lr=1e-3": {"mAP": value}}}
    with pytest.raises(UserError) as caught:
        check_published(published, [DRAWN], ["mAP"], [], fractions=["mAP"])
    lines = str(caught.value).splitlines()
    assert f"study.published.drawn.optimizer.lr=1e-3.{told}" in [line.strip() for line in lines]


@pytest.mark.parametrize("task", ["multitask", "localization", "reid", "segmentation"])
def test_all_metrics_of_the_tasks_but_losses_and_counts_are_fractions(
    task: str, make_config: Callable[..., DictConfig]
) -> None:
    cfg = make_config(f"task={task}")
    assert metrics_of(cfg).keys() - fractions_of(cfg) <= {"val/loss", "val/count_error"}
    assert set(fractions_of(cfg)) <= metrics_of(cfg).keys() - {"val/loss", "val/count_error"}


def test_words_are_read_as_overrides() -> None:
    assert named_settings("'a.b=[x, y]' c=1e-3") == {"a.b": "[x,y]", "c": 1e-3}

"""The answers to what a study's file states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.analysis.statistics.hypotheses import answer_hypotheses
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from tests.phasewise.study.synthetic import Settings, grid_score, read_grid


def ask(directory: Path, stated: object, score: Any = grid_score, **more: Any) -> tuple[str, str]:
    study = read_grid(directory, score, journal={"hypotheses": [stated]}, **more)
    (answer,) = answer_hypotheses(study)
    return answer.verdict, answer.evidence


LR, BATCH, NET = "optimizer.lr", "data.batch_size", "model.architecture"


@pytest.mark.parametrize(
    ("stated", "verdict", "evidence"),
    [
        ({"key": LR, "best": ["5e-4", "1e-3"]}, "yes", "9 pairs"),
        ({"key": LR, "best": [1e-4]}, "no", "best at optimizer.lr=0.001"),
        ({"key": NET, "best": ["attention_resunet"]}, "cannot be told", "within noise"),
        ({"key": NET, "best": ["attention_resunet", "attention_unet"]}, "yes", "against unet"),
        ({"key": BATCH, "order": [8, 16, 32]}, "yes", "8 to 16: +0.0"),
        ({"key": BATCH, "order": [32, 16, 8]}, "no", "32 to 16: -0.0"),
        ({"key": BATCH, "order": [8, 64]}, "cannot be told", "64 was never tried"),
        ({"key": BATCH, "best": [64]}, "cannot be told", "64 was never tried"),
        ({"key": BATCH, "order": [8]}, "cannot be told", "two values"),
        ({"key": BATCH, "best": [8, 16, 32]}, "cannot be told", "no other value"),
        ({"key": "model.width", "best": [8]}, "cannot be told", "no phase varies model.width"),
        ({"key": LR, "best": [1], "phase": "x"}, "cannot be told", "phase x does not vary"),
        ({"key": LR, "best": [1e-3], "measure": "val/x"}, "cannot be told", "no trial has val/x"),
        ({"key": LR, "best": [1e-3], "measure": "val/mIoU"}, "yes", "val/mIoU"),
        ({"key": LR}, "cannot be told", "names none of best"),
        ({"best": [1]}, "cannot be told", "names no key"),
        ("just a text", "cannot be told", "names no key"),
    ],
)
def test_hypotheses(tmp_path: Path, stated: Any, verdict: str, evidence: str) -> None:
    found = ask(tmp_path, stated)
    assert found[0] == verdict, found[1]
    assert evidence in found[1]


@pytest.mark.parametrize(
    ("end", "stated", "verdict", "evidence"),
    [
        ("out_of_memory", {"key": BATCH, "order": [8, 16, 32]}, "cannot be told", "no run at"),
        ("out_of_memory", {"key": BATCH, "best": [16]}, "cannot be told", "batch_size=32 finished"),
        ("missing", {"key": BATCH, "best": [16]}, "cannot be told", "no run at data.batch_size=32"),
        ("diverged", {"key": BATCH, "best": [16]}, "yes", "best at data.batch_size=16"),
        ("diverged", {"key": BATCH, "best": [32]}, "cannot be told", "32 diverged"),
        ("diverged", {"key": BATCH, "order": [16, 32]}, "cannot be told", "=32 diverged"),
    ],
)
def test_values_that_never_finished(
    tmp_path: Path, end: str, stated: Any, verdict: str, evidence: str
) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        return end if settings[BATCH] == 32 else grid_score(settings, seed)

    found = ask(tmp_path, stated, score)
    assert found[0] == verdict, found[1]
    assert evidence in found[1]


def test_one_run_each_tells_nothing(tmp_path: Path) -> None:
    words = {"": f"{LR}=1e-4,1e-3 {BATCH}=8 {NET}=unet"}
    verdict, evidence = ask(tmp_path, {"key": LR, "best": [1e-3]}, phases=words)
    assert verdict == "cannot be told"
    assert "compared by one trial each, without another seed or setting" in evidence
    found = ask(tmp_path / "more", {"key": LR, "best": [1e-3]}, phases=words, seeds=[0, 1, 2])
    assert found[0] == "yes" and "3 pairs" in found[1]


def test_trials_without_partners_are_compared_by_welch(tmp_path: Path) -> None:
    """A sample of a grid in which no two trials differ in the learning rate alone."""
    study = read_grid(tmp_path, journal={"hypotheses": [{"key": LR, "order": [1e-4, 1e-3]}]})
    kept = {1e-4: (8, 16), 5e-4: (), 1e-3: (32,)}
    phase = study.phases[0]
    phase.candidates = [c for c in phase.candidates if c.settings[BATCH] in kept[c.settings[LR]]]
    phase.plan.declared[LR] = ["1e-4", "1e-3"]
    (answer,) = answer_hypotheses(study)
    assert answer.verdict == "yes" and "6 trials that also differ" in answer.evidence


def test_steadier_with_larger_batches(tmp_path: Path) -> None:
    """The grid study's own hypothesis: less standard deviation of the validation loss."""

    def shake(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for row in rows:
            row["val/loss"] = 0.5 + (row["epoch"] % 2) / settings[BATCH] + 1e-3 * row["val/loss"]

    orders = {"yes": [32, 16, 8], "no": [8, 16, 32]}
    for verdict, order in orders.items():
        stated = {"key": BATCH, "measure": "stability", "order": order}
        assert ask(tmp_path / verdict, stated, edit=shake)[0] == verdict
    stated = {"key": BATCH, "measure": "stability", "best": [32]}
    assert ask(tmp_path / "best", stated, edit=shake)[0] == "yes"  # less is better


def test_a_value_has_one_name_in_an_answer(tmp_path: Path) -> None:
    """A file may state 0 where the trials have 0.0."""
    rate = "model.dropout_rate"
    phases = {"": f"{rate}=0.0,0.5"}
    stated = {"key": rate, "order": [0.5, 0]}
    study = read_grid(
        tmp_path,
        lambda settings, seed: 0.6 - 0.3 * settings[rate] + 0.001 * seed**2,
        phases=phases,
        seeds=[0, 1, 2],
        journal={"hypotheses": [stated]},
    )
    (answer,) = answer_hypotheses(study)
    assert f"mean val/mIoU by {rate}: 0.5: " in answer.evidence, answer.evidence
    assert ", 0.0: " in answer.evidence and "0.5 to 0.0: " in answer.evidence
    assert answer.table is not None and list(map(str, answer.table.index)) == ["0.0", "0.5"]

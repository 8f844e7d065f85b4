"""Findings about how trials ran and ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from tests.phasewise.analysis.auditing import LR, audited, edit_some, only, rules
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, clean_score, noise


@pytest.mark.parametrize(
    ("key", "value"),
    [("git", "ba9876543210"), ("torch", "2.16.0"), ("device", "NVIDIA H100"), ("python", "3.12.1")],
)
def test_trials_under_different_conditions(tmp_path: Path, key: str, value: str) -> None:
    def other(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment[key] = value

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, other))
    found = only(audited(tmp_path, study), "mixed_conditions")
    assert found.evidence[0].startswith(f"{key}: ") and f"{value} (3)" in found.evidence[0]


def test_precision_that_was_compared_is_no_condition(tmp_path: Path) -> None:
    def note(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment["precision"] = settings.get("trainer.precision", "32-true")

    phase = "trainer.precision=32-true,bf16-mixed"
    study = Synthetic({"precision": phase}, lambda s, i: 0.5 + 0.001 * noise(s, i), {}, edit=note)
    assert "mixed_conditions" not in rules(audited(tmp_path / "asked", study))

    def other(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment["precision"] = "bf16-mixed" if settings[LR] == 1e-2 else "32-true"

    found = audited(tmp_path / "auto", Synthetic(edit=other))
    assert only(found, "mixed_conditions").evidence[0].startswith("precision: ")


def test_precision_that_was_replaced(tmp_path: Path) -> None:
    def note(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment |= {"precision": "bf16-mixed", "precision_asked": "16-mixed"}

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, note))
    found = only(audited(tmp_path, study), "replaced_precision")
    assert "ran in bf16-mixed, not in 16-mixed, which wants a GPU" in found.text
    assert all("optimizer.lr=0.01" in name for name in found.evidence)
    assert "trainer.precision=bf16-mixed" in found.advice


def test_trials_on_different_samples(tmp_path: Path) -> None:
    def other(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["split_hash"] = "f" * 16

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, other))
    assert only(audited(tmp_path / "same", study), "different_data").phase == "lr"
    by_seed = Synthetic(edit=edit_some(lambda _, record: record.seed == 1, other))
    assert audited(tmp_path / "seeds", by_seed) == []  # a split by seed is one


def test_image_in_two_splits(tmp_path: Path) -> None:
    def overlap(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        remarks = [{"file": f"{n}.jpg", "reason": "is in train and val"} for n in range(12)]
        record.data["warnings"] = [
            *remarks,
            {"file": "a.txt", "reason": "lists 'x' more than once"},
        ]

    found = only(audited(tmp_path, Synthetic(edit=overlap)), "sample_in_two_splits")
    assert found.text.startswith("12 samples in two splits") and len(found.evidence) == 12
    assert found.evidence[0] == "0.jpg is in train and val"


def test_failures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    ends = {1e-4: "diverged", 1e-2: "failed"}
    study = Synthetic(
        {"": f"{LR}=1e-4,3e-4,1e-3,2e-3,1e-2"},
        lambda s, i: ends.get(s[LR], 0.6 - abs(s[LR] - 1e-3) * 100 + 0.001 * noise(s, i)),
        {},
    )
    found = audited(tmp_path, study)
    lost = next(f for f in found if f.rule == "failed")
    assert lost.text == "6 of 15 trials have no result: 3 diverged, 3 failed"
    assert "optimizer.lr=0.0001,seed=0: diverged, the reason why it diverged" in lost.evidence


@pytest.mark.parametrize("end", ["missing", "running"])
def test_trials_that_never_ended(tmp_path: Path, end: str) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        lost = settings[LR] == 1e-4 and seed == 2
        return end if lost else clean_score(settings, seed)

    found = only(audited(tmp_path, Synthetic({"": CLEAN["lr"]}, score)), "unfinished")
    assert "1 of 9" in found.text and "seed=2" in found.evidence[0]


def test_undefined_objectives(tmp_path: Path) -> None:
    def undefine(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.objective |= {"value": None, "epoch": None}

    study = Synthetic(edit=edit_some(lambda s, r: s[LR] == 1e-4 and r.seed == 0, undefine))
    assert only(audited(tmp_path, study), "undefined").evidence == (
        "lr/optimizer.lr=0.0001,seed=0",
    )


def test_reduced_budget(tmp_path: Path) -> None:
    assert only(audited(tmp_path, Synthetic(journal={"budget": "smoke"})), "scaled_down")


def test_alien_remarks_and_environments_raise_nothing(tmp_path: Path) -> None:
    aliens: list[Any] = [None, 5, "text", [None, 5, {"file": 3}, {"reason": ["x"]}]]

    def alien(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["warnings"] = aliens[(record.seed or 0) % 4]
        record.environment = {"git": ["x", {"y": 1}]}
        record.error = ""

    assert audited(tmp_path, Synthetic(edit=alien, seeds=range(4))) == []
    nothing = Synthetic(score=lambda *_: "failed")
    assert "failed" in rules(audited(tmp_path / "failed", nothing))
    assert audited(tmp_path / "missing", Synthetic(score=lambda *_: "missing"))

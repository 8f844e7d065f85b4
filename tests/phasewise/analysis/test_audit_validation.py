"""Validation that cannot tell: found where it is planted, and only there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phasewise.analysis.audit import Finding
from phasewise.analysis.bootstrap import resample
from phasewise.analysis.items import Items, mean
from phasewise.analysis.validation import (
    GENTLER,
    LONGER,
    full_epochs,
    half_width,
    half_width_between,
    is_full,
    jump,
    look_alikes_of,
    losses_of_training,
    run_remarks,
)
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from tests.phasewise.analysis.auditing import LR, audited, rules
from tests.phasewise.study.synthetic import CLEAN, Edit, Settings, Synthetic, noise

ITEMS = 20
LEAK = "1 of 2 images of val look like one of train (b (1).png like a.png)"
LEAKS = {"file": "splits", "reason": f"{LEAK}, 2 of 3 images of test look like one of val (d like "}
LEAKS["reason"] += "c): figures on copies are too good. Where names decide"


def found(tmp_path: Path, rule: str, study: Synthetic) -> list[Finding]:
    return [one for one in audited(tmp_path, study) if one.rule == rule]


# saturated


def levels(*scores: float) -> Callable[[Settings, int], float]:
    known = dict(zip((1e-4, 1e-3, 1e-2), scores, strict=True))
    return lambda settings, seed: known[settings[LR]] - 1e-5 * abs(noise(settings, seed))


def test_an_objective_at_its_ceiling_cannot_choose(tmp_path: Path) -> None:
    study = Synthetic({"lr": CLEAN["lr"]}, levels(0.9, 0.998, 1.0))
    (one,) = found(tmp_path, "saturated", study)
    assert one.severity == "warning" and one.phase == "lr"
    assert "val/mIoU is at its ceiling (0.995 or more) for 2 of 3 configurations" in one.text
    assert one.evidence[1].startswith("optimizer.lr=0.01: 1, in ")
    assert "data.validation=" in one.advice


@pytest.mark.parametrize(
    "change",
    [
        {"score": levels(0.9, 0.99, 1.0)},  # one of them
        {"score": levels(1.0, 30.0, 31.0)},  # no fraction
        {"score": levels(0.996, 0.998, 1.0), "mode": "min"},
    ],
)
def test_a_metric_that_is_not_full_can(tmp_path: Path, change: dict[str, Any]) -> None:
    study = replace(Synthetic({"lr": CLEAN["lr"]}), **change)
    assert not found(tmp_path, "saturated", study)


@pytest.mark.parametrize(("first", "expected"), [(6, 1), (11, 0)])
def test_a_single_configuration_whose_epochs_are_full(
    tmp_path: Path, first: int, expected: int
) -> None:
    def full(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for row in rows:
            row["val/mIoU"] = 1.0 if row["epoch"] >= first else 0.9

    study = Synthetic({"": f"{LR}=1e-3"}, lambda *_: 1.0, edit=full)
    assert len(found(tmp_path, "saturated", study)) == expected


def test_full_epochs_are_counted() -> None:
    rows: list[Row] = [{"epoch": i, "x": value} for i, value in enumerate((0.9, 1, 0.99, 1, 1), 1)]
    full = full_epochs(rows, {"metric": "x", "mode": "max"})
    assert full == (3, 5, 2) and full.most
    assert str(full) == "in 3 of 5 epochs, from epoch 2 on"
    assert full_epochs([*rows, {"epoch": 6, "x": 1.5}], {"metric": "x", "mode": "max"}) is None
    assert is_full([0.99, 1.0], "max") and not is_full([0.99, 0.9999], "max")
    assert not is_full([], "max") and not is_full([0.999], "min")


# worse_than_start


def started(scores: dict[str, float], **best: float) -> Edit:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.baselines["untrained"] = scores
        record.best |= {f"val/{name}": value for name, value in best.items()}
        record.headline = ["mIoU", *best]

    return edit


def test_networks_that_were_better_before_training(tmp_path: Path) -> None:
    edit = started({"val/mIoU": 0.55})
    (one,) = found(tmp_path, "worse_than_start", Synthetic(edit=edit))
    assert one.severity == "warning" and "2 configurations no better on val" in one.text
    assert one.evidence[0].startswith("optimizer.lr=0.0001: val/mIoU 0.")
    assert one.phase == "lr" and len(one.evidence) == 2
    assert one.advice == LONGER  # of what was drawn at random there is nothing to keep
    came = Synthetic(edit=edit, defaults=Synthetic().defaults | {"model.pretrained": True})
    assert found(tmp_path / "came", "worse_than_start", came)[0].advice == GENTLER


def test_a_choice_that_was_better_before_training_is_an_error(tmp_path: Path) -> None:
    edit = started({"val/mIoU": 0.7, "test/mIoU": 0.3})
    lr, activation = found(tmp_path, "worse_than_start", Synthetic(edit=edit, test=True))
    assert {lr.severity, activation.severity} == {"error"}
    assert "the chosen one among them" in lr.text


def test_a_final_configuration_that_was_better_on_test_data(tmp_path: Path) -> None:
    edit = started({"val/mIoU": 0.3, "test/mIoU": 0.7})
    (one,) = found(tmp_path, "worse_than_start", Synthetic(edit=edit, test=True))
    assert one.severity == "error" and one.phase == "test"
    assert "test/mIoU 0.6" in one.evidence[0] and "before training 0.7" in one.evidence[0]


def test_a_metric_beside_the_objective_that_fell(tmp_path: Path) -> None:
    study = Synthetic({"lr": CLEAN["lr"]})
    for before, lost in ((0.25, 1), (0.202, 0)):  # 1 % is nothing
        edit = started({"val/mIoU": 0.3, "val/rank1": before}, rank1=0.2)
        one = found(tmp_path / str(lost), "worse_than_start", replace(study, edit=edit))
        assert [it.severity for it in one] == ["warning"] * lost
        assert all("val/rank1 0.2, before training 0.25" in it.evidence[0] for it in one)


def test_training_without_any_effect_is_no_better() -> None:
    def run(value: float, before: float, mode: str = "max") -> list[str]:
        record = a_run(value, mode=mode)
        record.baselines = {"untrained": {"val/mIoU": before}}
        return [str(it) for it in losses_of_training([record], "val")]

    assert run(0.57083333, 0.57083331) == ["val/mIoU 0.5708, before training 0.5708"]
    assert run(1.0, 1.0) == [] != run(0.998, 1.0)
    assert run(0.4, 0.3) == [] != run(0.4, 0.3, "min")
    assert run(0.0, 0.0) == ["val/mIoU 0, before training 0"]


# unstable


def shaken(size: float) -> Edit:
    """Every other epoch is worse; the best one is not."""

    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for row in rows:
            row["val/mIoU"] -= size * (row["epoch"] % 2 == 0)

    return edit


def test_validation_that_jumps_by_more_than_what_separates_candidates(tmp_path: Path) -> None:
    study = Synthetic({"lr": CLEAN["lr"]}, edit=shaken(0.5))
    (one,) = found(tmp_path, "unstable", study)
    assert "jumps by 0.4 between successive epochs, 0.23 in a mean of 3, more than" in one.text
    assert len(one.evidence) == 6, "of winner and runner-up, three seeds each"
    assert not found(tmp_path / "less", "unstable", replace(study, edit=shaken(0.2)))
    more = replace(study, edit=shaken(0.2), seeds=[0])
    assert found(tmp_path / "one seed", "unstable", more), "which nothing averages out"
    short = replace(study, edit=shaken(0.5), epochs=5)
    assert not found(tmp_path / "short", "unstable", short)


def test_a_steady_rise_is_no_jump() -> None:
    values = np.random.default_rng(0).normal(size=4001)

    def rows(values: Any) -> list[Row]:
        return [{"epoch": i + 1, "x": float(value)} for i, value in enumerate(values)]

    assert jump(rows(np.arange(12.0)), "x") == 0
    # differences of white noise have the standard deviation sqrt(2), a normal's MAD is .6745 of it
    assert jump(rows(values + 3 * np.arange(4001)), "x") == pytest.approx(
        math.sqrt(2) * 0.6745, rel=0.05
    )
    assert math.isnan(jump(rows(values[:6]), "x")), "two differences are too few"


# too_few_items


def items_of(settings: Settings, seed: int, own: float) -> Any:
    """Scores of the items: what all runs have in common, and ``own`` noise of each."""
    common = np.random.default_rng(1).normal(scale=0.3, size=ITEMS)
    state = zlib.crc32(repr((sorted(settings.items()), seed)).encode())
    scores = common + np.random.default_rng(state).normal(scale=own, size=ITEMS)
    return scores - scores.mean()


def kept(scores: Any, metric: str = "val/mIoU") -> dict[str, Any]:
    items = Items("images", np.arange(ITEMS), {}, lambda weights: {"x": mean(weights, scores)})
    values = resample(items, resamples=200, seed=0)["x"]
    return {"metric": metric, "unit": "images", "count": ITEMS, "values": [*values]}


def judged(own: float, *, same: bool = True, metric: str = "val/mIoU") -> Edit:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        value = record.objective["value"]
        scores = value + items_of(settings, record.seed or 0, own)
        record.resampled = kept(scores, metric)
        record.data["hashes"] = {"val": "a" if same else f"{settings} {record.seed}"}

    return edit


def test_more_noise_over_items_than_what_separates_candidates(tmp_path: Path) -> None:
    study = Synthetic({"lr": CLEAN["lr"]}, edit=judged(0.6))
    (one,) = found(tmp_path, "too_few_items", study)
    assert "20 images of validation do not tell optimizer.lr=0.001 from " in one.text
    assert "over the same items, in pairs, holds 0" in one.text
    assert any(line.startswith("optimizer.lr=0.01: 0.1 behind, ± ") for line in one.evidence)


def test_the_same_items_are_compared_in_pairs(tmp_path: Path) -> None:
    """What is hard is hard for all: apart, the intervals are wider than the differences."""
    study = Synthetic({"lr": CLEAN["lr"]}, edit=judged(0.05))
    assert not found(tmp_path / "same", "too_few_items", study)
    other = replace(study, edit=judged(0.05, same=False))
    (one,) = found(tmp_path / "other", "too_few_items", other)
    assert "which are not known to be the same and are not compared in pairs" in one.text
    loss = replace(study, edit=judged(0.6, metric="val/dice"))
    assert not found(tmp_path / "loss", "too_few_items", loss), "not of the objective"


def test_half_widths_are_those_of_means() -> None:
    one, two = a_run(0.5), a_run(0.4)
    a, b = items_of({}, 0, 0.2), items_of({}, 1, 0.2)
    one.resampled, two.resampled = kept(a), kept(b)
    root = math.sqrt(ITEMS)
    assert half_width(a_run(0.5)) is None and half_width_between([(one, a_run(0.5))]) is None
    single, apart = half_width(one), half_width_between([(one, two)])
    one.data = two.data = {"hashes": {"val": "x"}}
    paired = half_width_between([(one, two)])
    assert single is not None and apart is not None and paired is not None
    assert single.width == pytest.approx(1.96 * a.std() / root, rel=0.1)
    assert apart.width == pytest.approx(1.96 * math.hypot(a.std(), b.std()) / root, rel=0.1)
    assert paired.width == pytest.approx(1.96 * (a - b).std() / root, rel=0.1)
    assert paired.paired and not apart.paired
    assert (paired.items, paired.unit) == (ITEMS, "images")


def test_folds_are_judged_by_items_of_their_own() -> None:
    pairs, variances = [], []
    for fold in range(3):
        runs = a_run(0.5), a_run(0.4)
        scores = [items_of({"fold": fold}, seed, 0.2) for seed in (0, 1)]
        for run, own in zip(runs, scores, strict=True):
            run.resampled, run.data = kept(own), {"hashes": {"val": str(fold)}}
        pairs.append(runs)
        variances.append((scores[0] - scores[1]).var() / ITEMS)
    half = half_width_between(pairs)
    assert half is not None and half.paired and half.items == 3 * ITEMS
    assert half.width == pytest.approx(1.96 * math.sqrt(sum(variances)) / 3, rel=0.1)


# split_leaks


def test_near_duplicates_in_two_splits(tmp_path: Path) -> None:
    def leak(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["warnings"] = [{"file": "a.png", "reason": "is tiny"}, LEAKS]

    (one,) = found(tmp_path, "split_leaks", Synthetic(edit=leak))
    assert LEAK in one.text and "data.group_by=near" in one.advice
    assert [line.partition(": ")[2] for line in one.evidence] == look_alikes_of(
        {"warnings": [LEAKS]}
    )
    assert len(one.evidence) == 2


# a single run


def a_run(value: float, mode: str = "max") -> RunRecord:
    objective = {"metric": "val/mIoU", "mode": mode, "value": value, "epoch": 9}
    return RunRecord(
        Path("x"), "toy", "f", [], 0, objective, status="completed", best={"val/mIoU": value}
    )


def a_history(value: float, shake: float = 0.0, rise: float = 0.1) -> list[Row]:
    return [
        {"epoch": e, "val/mIoU": min(value, rise * e) - shake * (e % 2 == 0)} for e in range(1, 13)
    ]


def test_a_run_says_what_keeps_its_figures_from_meaning_much() -> None:
    clean = a_run(0.6)
    clean.resampled = kept(items_of({}, 0, 0.0) * 0.1)
    assert [*run_remarks(clean, a_history(0.6))] == []
    bad = a_run(0.6)
    bad.baselines = {"untrained": {"val/mIoU": 0.7, "test/mIoU": 0.8}}
    bad.test = {"test/mIoU": 0.5}
    bad.resampled, bad.data = kept(items_of({}, 0, 0.3)), {"warnings": [LEAKS]}
    lines = [*run_remarks(bad, a_history(0.6, shake=0.1))]
    named = [line.partition(":")[0] for line in lines]
    expected = ["worse_than_start", "worse_than_start", "unstable", "too_few_items"]
    assert named == [*expected, "split_leaks", "split_leaks"]
    assert "val/mIoU 0.6, before training 0.7" in lines[0]
    assert "test/mIoU 0.5, before training 0.8" in lines[1]
    assert "over the 20 images of validation, val/mIoU is 0.6 +- 0.1" in lines[3]
    (full,) = run_remarks(a_run(1.0), a_history(1.0, rise=0.2))
    assert full.startswith("saturated: val/mIoU is at its ceiling")


def test_old_records_are_silent(tmp_path: Path) -> None:
    assert rules(audited(tmp_path, Synthetic(test=True))) == []
    assert [*run_remarks(a_run(0.6), [])] == []

"""The table of trials."""

from __future__ import annotations

import math
import time
from pathlib import Path
from statistics import stdev

import pytest

from phasewise.analysis.statistics.frame import trial_frame
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult, typed
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, clean_score, noise


@pytest.fixture
def clean(tmp_path: Path) -> StudyResult:
    Synthetic(test=True).write(tmp_path)
    return read_study(tmp_path)


def test_frame_has_a_row_per_trial_and_phase(clean: StudyResult) -> None:
    frame = trial_frame(clean)
    assert len(frame) == 9 + 9 + 6
    assert frame["trial"].nunique() == 15  # relu is the first phase's winner, the test trains none
    rows = frame[(frame["phase"] == 1) & (frame["model.activation"] == "gelu")]
    assert rows["seed"].tolist() == [0, 1, 2]
    assert set(rows["optimizer.lr"]) == {0.001}
    settings = {"optimizer.lr": 0.001, "model.activation": "gelu"}
    assert rows["value"].tolist() == [clean_score(settings, seed) for seed in (0, 1, 2)]
    assert set(frame.loc[frame["phase"] == 0, "model.activation"]) == {"relu"}  # from its config


def test_measures_against_the_history(clean: StudyResult) -> None:
    row = trial_frame(clean).iloc[4]
    trial = clean.phases[0].candidates[1].trials[1]
    lines = (trial.directory / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    table = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    losses = [entry["val/loss"] for entry in table]
    mean = sum(losses) / 12
    assert row["stability"] == pytest.approx(
        math.sqrt(sum((loss - mean) ** 2 for loss in losses) / 11)
    )
    best = max(table, key=lambda entry: entry["val/mIoU"])
    assert row["epochs_to_best"] == best["epoch"] == 9
    assert row["gap"] == pytest.approx(best["val/loss"] - best["train/loss"])
    assert row["last"] == table[-1]["val/mIoU"]
    values = [entry["val/mIoU"] for entry in table]
    assert row["objective_std"] == pytest.approx(stdev(values))
    assert row["drop"] == pytest.approx(max(values) - values[-1]) and row["drop"] > 0
    assert row["drop_percent"] == pytest.approx(100 * row["drop"] / max(values))
    assert row["seconds_to_best"] == 9 * 0.5
    assert row["per_hour"] == pytest.approx(max(values) / (6.0 / 3600))
    assert row["epochs"] == 12 and row["seconds"] == 6.0 and row["parameters"] == 1234567


def test_unfinished_trials_have_a_status_and_no_value(tmp_path: Path) -> None:
    ends = dict(zip([1e-4, 1e-3, 1e-2], ["diverged", "missing", "running"], strict=True))
    Synthetic(phases={"": CLEAN["lr"]}, score=lambda s, _: ends[s["optimizer.lr"]]).write(tmp_path)
    frame = trial_frame(read_study(tmp_path))
    assert frame["status"].tolist() == sorted(frame["status"], key=[*ends.values()].index)
    assert set(frame["status"]) == {"diverged", "missing", "running"}
    assert frame["value"].isna().all() and frame["early_stopped"].isna().all()


def test_early_stopping_is_fewer_epochs_than_planned(tmp_path: Path) -> None:
    def stop(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if settings["optimizer.lr"] == 1e-2:
            record.cost["epochs"] = 10
            del rows[10:]

    Synthetic(phases={"": CLEAN["lr"]}, edit=stop).write(tmp_path)
    frame = trial_frame(read_study(tmp_path))
    assert frame["early_stopped"].tolist() == [False] * 6 + [True] * 3


def test_values_are_typed_as_hydra_reads_them() -> None:
    texts = ["1e-3", "5E-4", "8", "true", "null", "[a, b]", "a b", "x=(", 3, None, True]
    assert [typed(text) for text in texts] == [
        *(0.001, 0.0005, 8, "true", "null", "[a,b]", "a b", "x=(", 3, "null", "true")
    ]


def test_a_thousand_trials_would_take_few_seconds(tmp_path: Path) -> None:
    values = ",".join(str(1 + number) for number in range(75))
    phases = {"": f"data.batch_size={values}"}
    Synthetic(phases, noise, {}, seeds=[0, 1, 2, 3]).write(tmp_path)
    start = time.process_time()
    frame = trial_frame(read_study(tmp_path))
    assert len(frame) == 300
    assert time.process_time() - start < 1.5  # of 5 s for 1,000

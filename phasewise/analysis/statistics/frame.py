"""The trials of a study as one table, and what each row was computed from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

import pandas as pd

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.measures import MEASURES
from phasewise.study.results import (
    CandidateResult,
    Setting,
    StudyResult,
    TrialResult,
    settings_of,
)

EPOCHS_KEY = "trainer.max_epochs"
COMPARING = ("grid", "combinations", "rerun", "search")
"""Kinds of phases that compare; ``test`` does not."""

COST = ("seconds", "seconds_per_epoch", "images_per_second", "peak_memory_mb", "parameters")


def trial_frame(study: StudyResult) -> pd.DataFrame:
    """One row per trial and phase, in the order of the plan; phases that share a trial repeat it.

    Columns:
        - ``phase`` (its number from 0), ``candidate`` (index in the phase), ``trial`` (directory,
          relative to the study's), ``seed``;
        - every key that some phase varies, with its value there (a number or text; from the saved
          config, if no override names it; ``(not set)`` where there is none);
        - ``status``; ``missing`` where there is no record;
        - ``value``: the objective at its best epoch, NaN unless completed and defined;
        - the other `phasewise.study.measures.MEASURES`; standard deviations are of samples (n - 1),
          a lower one is steadier;
        - ``early_stopped``: fewer epochs than ``trainer.max_epochs``; missing if that is unknown;
        - every metric of the best epoch under its own name.

    Nothing is rounded. It is made once for a study; each caller has a copy.
    """
    if "trials" not in study.tables:
        study.tables["trials"] = _trial_frame(study)
    frame: pd.DataFrame = study.tables["trials"]
    return frame.copy()


def _trial_frame(study: StudyResult) -> pd.DataFrame:
    keys = all_keys(study)
    rows = []
    for number, phase in enumerate(study.phases):
        for index, candidate in enumerate(phase.candidates):
            shared = {
                "phase": number,
                "candidate": index,
                **{key: phase.setting(candidate, key) for key in keys},
            }
            rows += [
                shared | _place(trial, study) | _measures(trial, candidate)
                for trial in candidate.trials
            ]
    first = ["phase", "candidate", "trial", "seed", *keys, "status", *MEASURES, "early_stopped"]
    others = dict.fromkeys(name for row in rows for name in row if name not in first)
    frame = pd.DataFrame(rows, columns=[*first, *others])
    for name in keys:
        frame[name] = frame[name].astype(object)
    numbers = [*MEASURES, *others]
    frame[numbers] = frame[numbers].astype(float)
    frame["early_stopped"] = frame["early_stopped"].astype("boolean")
    return frame


def all_keys(study: StudyResult) -> list[str]:
    """The keys that some phase varies."""
    phases = [phase for phase in study.phases if phase.plan.kind in COMPARING]
    return list(dict.fromkeys(key for phase in phases for key in phase.keys))


def is_number(value: Any) -> bool:
    """A finite number, and no bool."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    return ok and math.isfinite(value)


def in_order(values: Sequence[Setting]) -> list[Setting]:
    """Each once: numbers by size, then texts as they come."""
    once = list(dict.fromkeys(values))
    return [*sorted(v for v in once if is_number(v)), *(v for v in once if not is_number(v))]


def _place(trial: TrialResult, study: StudyResult) -> dict[str, Any]:
    status = "missing" if trial.record is None else trial.record.status
    return {"trial": trial_name_of(trial, study), "seed": trial.seed, "status": status}


def trial_name_of(trial: TrialResult, study: StudyResult) -> str:
    """The directory of a trial, relative to the study's."""
    if trial.directory.is_relative_to(study.directory):
        return trial.directory.relative_to(study.directory).as_posix()
    return str(trial.directory)


def _measures(trial: TrialResult, candidate: CandidateResult) -> dict[str, Any]:
    record = trial.record
    if record is None:
        return {}
    rows = trial.history()
    best = record.objective["epoch"]
    metric, sign = record.objective["metric"], 1 if record.objective["mode"] == "max" else -1
    last = _number(record.last.get(metric))
    drop = sign * (trial.value - last)
    seconds = _number(record.cost.get("seconds"))
    found = {
        **{key: value for key, value in record.best.items() if value is not None},
        **{key: record.cost.get(key) for key in (*COST, "epochs")},
        "value": trial.value,
        "last": last,
        "drop": drop,
        "drop_percent": 100 * drop / abs(trial.value) if trial.value else math.nan,
        "epochs_to_best": best,
        "seconds_to_best": _number(best) * _number(record.cost.get("seconds_per_epoch")),
        "per_hour": 3600 * trial.value / seconds if seconds else math.nan,
        "stability": deviation(rows, "val/loss"),
        "objective_std": deviation(rows, metric),
        "gap": overfitting_gap(record, rows),
        "early_stopped": _early_stopped(trial, record, candidate),
    }
    return found


def _number(value: Any) -> float:
    return float(value) if is_number(value) else math.nan


def deviation(rows: Sequence[Row], metric: str) -> float:
    """Sample standard deviation of a metric over epochs; NaN with less than two."""
    values = [row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))]
    return stdev(values) if len(values) > 1 else math.nan


def overfitting_gap(record: RunRecord, rows: Sequence[Row]) -> float:
    """``val/loss`` less ``train/loss`` at the best epoch; NaN where one is missing."""
    epoch = record.objective["epoch"]
    scores: Mapping[str, Any] = record.best
    if "val/loss" not in scores or "train/loss" not in scores:
        scores = next((row for row in rows if row["epoch"] == epoch), {})
    val, train = scores.get("val/loss"), scores.get("train/loss")
    return math.nan if val is None or train is None else float(val) - float(train)


def _early_stopped(
    trial: TrialResult, record: RunRecord, candidate: CandidateResult
) -> bool | None:
    done = record.cost.get("epochs")
    if candidate.plan.epochs is not None:  # successive halving stopped it
        return False
    if record.status != "completed" or done is None:
        return None
    planned = settings_of(record.overrides).get(EPOCHS_KEY)
    if planned is None:
        planned = trial.saved.get(EPOCHS_KEY)
    return bool(done < planned) if is_number(planned) else None

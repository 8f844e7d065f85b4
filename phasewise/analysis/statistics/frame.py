"""The trials of a study as one table, and what each row was computed from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

import pandas as pd
from hydra.errors import HydraException

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.results import (
    CandidateResult,
    Setting,
    StudyResult,
    TrialResult,
    as_setting,
    settings_of,
)

EPOCHS_KEY = "trainer.max_epochs"
COMPARING = ("grid", "combinations", "rerun")
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
        - ``value``: the objective at its best epoch, NaN unless completed and defined; ``last``: at
          the last epoch; ``epochs_to_best``: the best one, counted from 1;
        - ``stability``: sample standard deviation (n - 1) of ``val/loss`` over the epochs, lower is
          steadier; ``gap``: ``val/loss`` less ``train/loss`` at the best epoch;
        - ``seconds``, ``seconds_per_epoch``, ``images_per_second``, ``peak_memory_mb``,
          ``parameters``, ``epochs`` (done);
        - ``early_stopped``: fewer epochs than ``trainer.max_epochs``; missing if that is unknown;
        - every metric of the best epoch under its own name.

    Nothing is rounded.
    """
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


MEASURES = ("value", "last", "epochs_to_best", "stability", "gap", *COST, "epochs")
"""Numbers of each trial, columns of `trial_frame`."""


def all_keys(study: StudyResult) -> list[str]:
    """The keys that some phase varies."""
    phases = [phase for phase in study.phases if phase.plan.kind in COMPARING]
    return list(dict.fromkeys(key for phase in phases for key in phase.keys))


def typed(text: Any) -> Setting:
    """A value as `as_setting` gives it, from how a person wrote it: ``1e-3`` is 0.001."""
    if not isinstance(text, str):
        return as_setting(text)
    try:
        return as_setting(settings_of([f"key={text}"])["key"])
    except (HydraException, ValueError):  # a text that is not in Hydra's grammar
        return text


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
    found = {
        **{key: value for key, value in record.best.items() if value is not None},
        **{key: record.cost.get(key) for key in (*COST, "epochs")},
        "value": trial.value,
        "last": record.last.get(record.objective["metric"]),
        "epochs_to_best": best,
        "stability": stability(rows),
        "gap": overfitting_gap(record, rows),
        "early_stopped": _early_stopped(trial, record, candidate),
    }
    return found


def stability(rows: Sequence[Row]) -> float:
    """Sample standard deviation of ``val/loss`` over epochs; NaN with less than two."""
    losses = [row["val/loss"] for row in rows if math.isfinite(row.get("val/loss", math.nan))]
    return stdev(losses) if len(losses) > 1 else math.nan


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

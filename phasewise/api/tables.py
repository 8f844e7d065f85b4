"""A study's trials, phases, epochs and findings as data frames."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pandas as pd

from phasewise.analysis.statistics.frame import all_keys
from phasewise.records.record import RunRecord
from phasewise.study.membership import role_of
from phasewise.study.results import CandidateResult, PhaseResult, StudyResult, TrialResult

SWEEP = "sweep"
"""What stands for the name of a sweep's single phase, which has none."""

LAST, COST, TEST = "last.", "cost.", "test"

Row = dict[str, Any]


def trials_table(study: StudyResult) -> pd.DataFrame:
    """One row per trial and phase, in the order of the plan.

    A trial that several phases share stands in each of them; ``drop_duplicates("directory")``
    keeps one. Nothing is rounded. Columns:

    - ``phase`` (its name; ``sweep`` for a sweep's), ``candidate`` (its number there, from 0),
      ``role`` (candidate, incumbent; of a test: final, start), ``seed``;
    - every key that some phase varies, with its value in the trial;
    - ``status`` (``missing`` without a record), ``value`` (the objective of the phase at its best
      epoch; NaN unless the trial has completed), ``epoch`` (that epoch);
    - metrics of the best epoch by their own names, of the last one after ``last.``, of the test
      split by their names, after ``test.`` where these do not begin so;
    - what it has cost after ``cost.``: ``cost.seconds``, ``cost.parameters``;
    - ``stopped`` (after how many epochs, or at which value of its key, halving stopped the
      candidate), ``barred`` (the requirements and guards that keep it from winning), ``error`` (why
      the trial did not complete) and ``directory``.

    Runs at the lower rungs of a halving that goes by a key are of other settings, and not shown.
    """
    keys = all_keys(study)
    rows = [_place(*one, keys) | _fate(*one[:2]) | _outcome(one[-1]) for one in _trials(study)]
    first = ["phase", "candidate", "role", "seed", *keys, "status", "value", "epoch"]
    last = ["stopped", "barred", "error", "directory"]
    others = dict.fromkeys(name for row in rows for name in row if name not in (*first, *last))
    groups = (  # metrics, those of the last epoch, of the test, cost
        [name for name in others if not name.startswith((LAST, COST, TEST))],
        *([name for name in others if name.startswith(lead)] for lead in (LAST, TEST, COST)),
    )
    frame = pd.DataFrame(rows, columns=[*first, *(n for group in groups for n in group), *last])
    for name in (n for group in groups for n in group):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    frame[["value", "stopped"]] = frame[["value", "stopped"]].astype(float)
    frame["epoch"] = frame["epoch"].astype("Int64")
    return _with_keys(frame, keys)


def history_table(study: StudyResult) -> pd.DataFrame:
    """One row per trial and epoch, each trial once: the first columns of `trials_table`, then
    ``directory`` and those of ``metrics.csv``, ``epoch`` first."""
    keys = all_keys(study)
    rows: list[Row] = []
    seen = set()
    for phase, index, trial in _trials(study):
        if trial.directory not in seen:
            seen.add(trial.directory)
            place = _place(phase, index, trial, keys)
            rows += [{**place, **row} for row in trial.history()]
    first = ["phase", "candidate", "role", "seed", *keys, "directory", "epoch"]
    others = dict.fromkeys(name for row in rows for name in row if name not in first)
    return _with_keys(pd.DataFrame(rows, columns=[*first, *others]), keys)


def phases_table(study: StudyResult) -> pd.DataFrame:
    """One row per phase that compares, in their order.

    Columns: ``phase``, ``kind`` (grid, combinations, rerun, ...), ``metric``, ``mode``, ``status``,
    ``candidates`` and ``trials`` (how many), ``winner`` (what tells it from the others; missing
    while nothing is decided), ``verdict`` (adopted, kept, within_noise, undecided), ``value`` and
    ``incumbent_value`` (means of the objective over seeds), ``reason``.
    """
    rows = [_phase(one) for one in study.phases if one.plan.kind != "test"]
    columns = ["phase", "kind", "metric", "mode", "status", "candidates", "trials", "winner"]
    columns += ["verdict", "value", "incumbent_value", "reason"]
    return pd.DataFrame(rows, columns=columns)


def audit_table(study: StudyResult) -> pd.DataFrame:
    """One row per finding of `phasewise.analysis.audit.audit`, gravest first."""
    from phasewise.analysis.audit import audit

    columns = ["rule", "severity", "phase", "text", "evidence", "advice"]
    rows = [
        (one.rule, one.severity, one.phase, one.text, "\n".join(one.evidence), one.advice)
        for one in audit(study)
    ]
    return pd.DataFrame(rows, columns=columns)


def _trials(study: StudyResult) -> Iterator[tuple[PhaseResult, int, TrialResult]]:
    """With its phase and the index of its candidate there."""
    for phase in study.phases:
        for index, candidate in enumerate(phase.candidates):
            for trial in candidate.trials:
                yield phase, index, trial


def _place(phase: PhaseResult, index: int, trial: TrialResult, keys: list[str]) -> Row:
    return {
        "phase": phase.plan.name or SWEEP,
        "candidate": index,
        "role": role_of(phase.plan, index),
        "seed": trial.seed,
        **{key: phase.setting(phase.candidates[index], key) for key in keys},
        "directory": str(trial.directory),
    }


def _fate(phase: PhaseResult, index: int) -> Row:
    plan = phase.candidates[index].plan
    barred = "; ".join([*plan.infeasible, *plan.fallen])
    return {"stopped": plan.epochs, "barred": barred or None}


def _outcome(trial: TrialResult) -> Row:
    record = trial.record
    if record is None:
        return {"status": "missing"}
    return {
        "status": record.status,
        "value": trial.value,
        "epoch": record.objective["epoch"],
        **record.best,
        **{f"{LAST}{name}": value for name, value in record.last.items()},
        **_test(record),
        **{f"{COST}{name}": value for name, value in record.cost.items()},
        "error": record.error,
    }


def _test(record: RunRecord) -> Row:
    scores = record.test or {}
    return {n if n.startswith(TEST) else f"{TEST}.{n}": value for n, value in scores.items()}


def _phase(phase: PhaseResult) -> Row:
    plan = phase.plan
    winner, incumbent = (_at(phase, row) for row in (plan.winner, plan.incumbent))
    return {
        "phase": plan.name or SWEEP,
        "kind": plan.kind,
        "metric": plan.objective["metric"],
        "mode": plan.objective["mode"],
        "status": plan.status,
        "candidates": len(phase.candidates),
        "trials": sum(len(one.trials) for one in phase.candidates),
        "winner": None if winner is None else phase.label(winner),
        "verdict": plan.verdict,
        "value": _mean(winner),
        "incumbent_value": _mean(incumbent),
        "reason": plan.reason,
    }


def _at(phase: PhaseResult, row: int | None) -> CandidateResult | None:
    return None if row is None or row >= len(phase.candidates) else phase.candidates[row]


def _mean(candidate: CandidateResult | None) -> float:
    values = [] if candidate is None else [*candidate.values.values()]
    return fmean(values) if values else float("nan")


def _with_keys(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """With settings as numbers, where all of a key's are."""
    for key in keys:
        frame[key] = frame[key].astype(object).infer_objects()
    return frame

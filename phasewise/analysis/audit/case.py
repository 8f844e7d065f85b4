"""What the rules of the audit look at, and what they find."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from phasewise.analysis.statistics.frame import COMPARING, trial_frame, trial_name_of
from phasewise.records.record import RunRecord
from phasewise.study.results import CandidateResult, PhaseResult, StudyResult, TrialResult
from phasewise.study.selection import select

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that the reader of a report must know.

    Attributes:
        rule: id, a key of `phasewise.analysis.audit.RULES`.
        severity: ``error`` where a figure is wrong or means nothing, ``warning`` where a conclusion
            may not hold, ``note`` for what else could be done.
        text: what was found, with its numbers.
        evidence: the trials and numbers it rests on, a line each.
        advice: what to do about it.
        phase: the name of the phase; ``None`` if it concerns the study.
    """

    rule: str
    severity: Severity
    text: str
    evidence: tuple[str, ...]
    advice: str
    phase: str | None = None


@dataclass(frozen=True)
class TrialRun:
    """A trial with the phase and candidate that it belongs to."""

    phase: PhaseResult
    candidate: CandidateResult
    trial: TrialResult
    name: str

    @property
    def record(self) -> RunRecord:
        """Of a trial that is known to have one."""
        assert self.trial.record is not None
        return self.trial.record

    @property
    def settings(self) -> dict[str, Any]:
        """Of the phase's start and the candidate."""
        return self.phase.base | self.candidate.settings


class Case:
    """A study, with what several rules compute from it."""

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.plan = study.plan

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`trial_frame` of the study."""
        return trial_frame(self.study)

    @cached_property
    def compared(self) -> list[PhaseResult]:
        """The phases that compare, test left out."""
        return [phase for phase in self.study.phases if compares(phase)]

    @cached_property
    def ran(self) -> list[TrialRun]:
        """All trials with a record, each directory once, those of comparing phases first."""
        found: dict[str, TrialRun] = {}
        tests = [phase for phase in self.study.phases if not compares(phase)]
        for phase in [*self.compared, *tests]:
            for one in self.of(phase):
                found.setdefault(one.name, one)
        return list(found.values())

    @property
    def completed(self) -> list[TrialRun]:
        """Those of `ran` that completed."""
        return [one for one in self.ran if one.record.status == "completed"]

    def of(self, phase: PhaseResult) -> Iterator[TrialRun]:
        """The trials of a phase that have a record."""
        for candidate in phase.candidates:
            for trial in candidate.trials:
                if trial.record is not None:
                    yield TrialRun(phase, candidate, trial, trial_name_of(trial, self.study))

    def is_over(self, phase: PhaseResult) -> bool:
        """Whether no more trials of a phase are to be expected."""
        return phase.plan.status == "completed" or (
            phase.plan.status == "running" and self.plan.status != "running"
        )

    def winner(self, phase: PhaseResult) -> int | None:
        """Index of the candidate that was chosen, or would be if the phase ended now."""
        plan = phase.plan
        if plan.winner is not None:
            return plan.winner
        values = [{} if one.plan.infeasible else one.values for one in phase.candidates]
        mode, seeds = plan.objective["mode"], plan.seeds
        return select(values, plan.incumbent, mode=mode, seeds=seeds).winner

    def winners(self) -> Iterator[tuple[PhaseResult, int]]:
        """The index of each comparing phase's winner, where it has a result."""
        for phase in self.compared:
            index = self.winner(phase)
            if index is not None and phase.candidates[index].values:
                yield phase, index


def compares(phase: PhaseResult) -> bool:
    """Whether it is no test."""
    return phase.plan.kind in COMPARING


def objective_mean(candidate: CandidateResult) -> float:
    """Of the objective over seeds; NaN without a result."""
    values = candidate.values.values()
    return fmean(values) if values else math.nan


def sign_of(phase: PhaseResult) -> float:
    """1 where more of the objective is better, else -1."""
    return 1.0 if phase.plan.objective["mode"] == "max" else -1.0


def metric_value(scores: Mapping[str, Any], key: str) -> float:
    """A metric; NaN if there is none."""
    value = scores.get(key)
    return math.nan if value is None else float(value)


def count(things: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{things} {noun}{'' if things == 1 else 's'}"


def of_phase(phase: PhaseResult) -> str:
    """To begin a sentence with."""
    return f"phase {phase.plan.name}: " if phase.plan.name else ""

"""What the sections ask of a study again and again: names, means, ranks, histories."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from phasewise.analysis.statistics.frame import in_order, is_number, trial_frame
from phasewise.analysis.statistics.halving import stopped_value
from phasewise.analysis.statistics.intervals import candidate_frame
from phasewise.records.record import RunRecord
from phasewise.study.halved import EPOCHS, amount_text
from phasewise.study.objectives import WEIGHTED, ranking_values
from phasewise.study.published import named_settings
from phasewise.study.results import (
    ONLY,
    CandidateResult,
    PhaseResult,
    Setting,
    StudyResult,
    TrialResult,
)


@dataclass(frozen=True)
class CandidateView:
    """A configuration of a phase with what came of it."""

    phase: PhaseView
    index: int
    result: CandidateResult

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The values of the keys that the phase varies."""
        return {key: self.phase.result.setting(self.result, key) for key in self.phase.keys}

    @property
    def label(self) -> str:
        """What tells it from the others: ``lr=0.001 batch_size=8``."""
        parts = [f"{short_key(key)}={value}" for key, value in self.settings.items()]
        return " ".join(parts) or ONLY

    @cached_property
    def values(self) -> dict[int, float]:
        """The objective by seed."""
        return self.result.values

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """Its row of `phasewise.analysis.statistics.intervals.candidate_frame`."""
        return self.phase.scores[self.index]

    @property
    def mean(self) -> float:
        """Of the objective over seeds; NaN without a result."""
        return self.scores["mean"]

    @cached_property
    def score(self) -> float:
        """What it is ranked by: the mean of the objective, or of the weighted mean of several."""
        if WEIGHTED not in self.phase.plan.choose:
            return self.mean
        values = ranking_values(self.phase.plan, self.result).values()
        return fmean(values) if values else math.nan

    @property
    def is_barred(self) -> bool:
        """Whether a requirement or a guard keeps it from winning."""
        return bool(self.result.plan.infeasible or self.result.plan.fallen)

    @property
    def records(self) -> list[RunRecord]:
        """Of its runs that have one."""
        return [trial.record for trial in self.result.trials if trial.record is not None]

    @property
    def is_measured(self) -> bool:
        """Whether one of its runs has completed."""
        return any(record.status == "completed" for record in self.records)

    @property
    def seconds(self) -> float:
        """That all its runs took, failed ones too; NaN if unknown."""
        found = [float(r.cost["seconds"]) for r in self.records if is_number(r.cost.get("seconds"))]
        return sum(found) if found else math.nan

    @property
    def status(self) -> str:
        """``completed``, or what became of its runs."""
        plan = self.result.plan
        if plan.refused is not None:
            return "refused"
        if plan.epochs is not None:
            settings = self.phase.plan.halving
            unit = EPOCHS if settings is None else settings.unit
            after = "after" if unit == EPOCHS else "at"
            after = f"stopped {after} {amount_text(unit, plan.epochs)}"
            value = stopped_value(self.phase.result, self.result)
            return after if math.isnan(value) else f"{after} at {value:.4g}"
        states = [trial_status(trial, self) for trial in self.result.trials]
        different = list(dict.fromkeys(states))
        if len(different) == 1:
            return different[0]
        return ", ".join(f"{states.count(state)} {state}" for state in different) or "not run"

    @property
    def best_trial(self) -> TrialResult | None:
        """The run of the seed that scored best."""
        found = [trial for trial in self.result.trials if math.isfinite(trial.value)]
        return max(found, key=lambda trial: self.phase.sign * trial.value, default=None)


class PhaseView:
    """A phase with its candidates."""

    def __init__(
        self,
        result: PhaseResult,
        number: int,
        published: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.result = result
        self.published = published or {}
        self.plan = result.plan
        self.number = number
        self.keys = result.keys
        self.own_keys, self.tied = result.own_keys, result.tied
        self.metric = result.plan.objective["metric"]
        self.mode = result.plan.objective["mode"]
        self.candidates = [
            CandidateView(self, index, one) for index, one in enumerate(result.candidates)
        ]

    @cached_property
    def scores(self) -> list[dict[str, float]]:
        """A row per candidate; see `CandidateView.scores`."""
        return candidate_frame(self.result).to_dict("records")

    def published_of(self, one: CandidateView) -> Mapping[str, float]:
        """What others have measured of a candidate, see `phasewise.study.published`."""
        for words, values in self.published.items():
            wanted = named_settings(words)
            if all(self.result.setting(one.result, key) == wanted[key] for key in wanted):
                return values
        return {}

    @property
    def title(self) -> str:
        """As a heading."""
        return f"Phase {self.number}: {self.plan.name}" if self.plan.name else "The sweep"

    @property
    def slug(self) -> str:
        """For names of files."""
        from phasewise.report.content import slug

        return slug(f"{self.number}_{self.plan.name or 'sweep'}")

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.mode == "max" else -1.0

    @cached_property
    def ranked(self) -> list[CandidateView]:
        """Best first; those with results of more seeds before the others, as in selection, and
        after all of them what may not win."""
        scored = [one for one in self.candidates if one.values]

        def place(one: CandidateView) -> tuple[bool, int, bool, float]:
            known = math.isfinite(one.score)
            score = -self.sign * one.score if known else 0.0
            return one.is_barred, -len(one.values), not known, score

        return sorted(scored, key=place)

    @cached_property
    def comparable(self) -> list[CandidateView]:
        """Those of `ranked` that may win and have results of as many seeds as the first."""
        found = [one for one in self.ranked if not one.is_barred]
        return [one for one in found if len(one.values) == len(found[0].values)]

    @property
    def incumbent(self) -> CandidateView | None:
        """What the phase started from, if it is a candidate."""
        return self._at(self.plan.incumbent)

    @property
    def winner(self) -> CandidateView | None:
        """What later phases start from; ``None`` while it is not decided."""
        return self._at(self.plan.winner)

    @cached_property
    def lead(self) -> str | None:
        """The key whose values differ most in their mean: what colours stand for."""
        spans = {}
        for key in self.own_keys:
            means = [fmean(one.mean for one in group) for group in self.by_value(key).values()]
            spans[key] = max(means) - min(means) if means else 0.0
        return max(spans, key=lambda key: spans[key], default=None)

    def by_value(self, key: str) -> dict[Setting, list[CandidateView]]:
        """Scored candidates by the value of a key, numbers in order, else as in the plan."""
        groups: dict[Setting, list[CandidateView]] = {}
        for one in self.candidates:
            if one.values:
                groups.setdefault(one.settings[key], []).append(one)
        return {value: groups[value] for value in in_order(list(groups))}

    def _at(self, index: int | None) -> CandidateView | None:
        inside = index is not None and 0 <= index < len(self.candidates)
        return self.candidates[index] if inside and index is not None else None


class StudyView:
    """A study as the report sees it."""

    def __init__(self, result: StudyResult) -> None:
        self.result = result
        self.plan = result.plan
        phases = [
            PhaseView(one, number, result.plan.published.get(one.plan.name))
            for number, one in enumerate(result.phases, 1)
        ]
        self.phases = [phase for phase in phases if phase.plan.kind != "test"]
        self.test = next((phase for phase in phases if phase.plan.kind == "test"), None)

    @property
    def title(self) -> str:
        """Its name, or the folder's."""
        return self.plan.name or self.result.directory.resolve().name

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All trials, see `phasewise.analysis.statistics.frame.trial_frame`."""
        return trial_frame(self.result)

    def frame_of(self, phase: PhaseView) -> pd.DataFrame:
        """The trials of a phase."""
        return self.frame[self.frame["phase"] == phase.number - 1]

    def trials(self) -> Iterator[tuple[PhaseView, CandidateView, TrialResult]]:
        """All runs, of the test phase too, each once."""
        seen = set()
        phases = [*self.phases, *([self.test] if self.test else [])]
        for phase in phases:
            for candidate in phase.candidates:
                for trial in candidate.result.trials:
                    if trial.directory not in seen:
                        seen.add(trial.directory)
                        yield phase, candidate, trial

    @property
    def last(self) -> PhaseView | None:
        """The last phase that was decided."""
        of = {phase.plan.name: phase for phase in self.phases}
        ordered = (of[plan.name] for plan in self.plan.latest_first())
        return next((phase for phase in ordered if phase.winner), None)

    @property
    def final(self) -> CandidateView | None:
        """The tested one; before that, the winner of the last decided phase, or what leads."""
        tested = self.test.candidates[0] if self.test and self.test.candidates else None
        if tested is not None and tested.is_measured:
            return tested
        if self.last is not None:
            return self.last.winner
        leading = next((phase.ranked[0] for phase in self.phases if phase.ranked), None)
        return leading or tested

    @property
    def start(self) -> CandidateView | None:
        """The starting configuration, if it was tested too."""
        others = self.test.candidates[1:] if self.test else []
        return others[0] if others else None

    @property
    def swept(self) -> dict[str, list[Setting]]:
        """The values of each swept key over all phases, numbers in order."""
        found: dict[str, list[Setting]] = {}
        for phase in self.phases:
            for candidate in phase.candidates:
                for key, value in candidate.settings.items():
                    found.setdefault(key, []).append(value)
        return {key: in_order(values) for key, values in found.items()}


STOPPED = "stopped"
"""The status of a run that successive halving has judged and not continued."""


def trial_status(trial: TrialResult, one: CandidateView) -> str:
    """Of a run of a candidate; one that is said to be running may have been killed."""
    if trial.record is None:  # at a rung it had a run of its own
        return STOPPED if one.result.plan.epochs is not None else "no record"
    if trial.record.status == "paused" and one.result.plan.epochs is not None:
        return STOPPED
    return "unfinished" if trial.record.status == "running" else trial.record.outcome


def short_key(key: str) -> str:
    """The last part of a key, with the one before where it says too little: ``loss.name``."""
    last = key.rpartition(".")[2]
    return ".".join(key.split(".")[-2:]) if last == "name" else last

"""A study as its directory tells it: the journal, with the record of every trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from phasewise.errors import Problem
from phasewise.records.history import Row, read_history
from phasewise.records.record import RunRecord, read_record
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.naming import parse_overrides
from phasewise.study.saved_config import SavedConfig
from phasewise.text import format_value

Setting = float | str
"""A value of a swept key: a number, or its text in Hydra's grammar."""

ONLY = "the only configuration"
"""What a phase calls a candidate without rivals."""

UNSET = "(not set)"
"""The value of a key that no override and no saved config tells."""


@dataclass
class TrialResult:
    """One run. ``record`` is ``None`` if there is none, or another configuration's."""

    seed: int
    directory: Path
    record: RunRecord | None
    _rows: list[Row] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def value(self) -> float:
        """The objective at its best epoch; NaN where the run has not completed, or has none."""
        return math.nan if self.record is None else objective_value(self.record)

    @cached_property
    def saved(self) -> SavedConfig:
        """What Hydra wrote beside it."""
        return SavedConfig(self.directory)

    def history(self) -> list[Row]:
        """``metrics.csv``: one row per epoch, read once; none if it cannot be read."""
        if self._rows is None:
            try:
                self._rows = read_history(self.directory)
            except OSError:
                self._rows = []
        return self._rows


@dataclass
class CandidateResult:
    """A configuration with its runs, one per seed."""

    plan: Candidate
    trials: list[TrialResult]
    rungs: list[list[TrialResult]] = field(default_factory=list)
    """Its runs at the values of halving's key below the last, one per seed."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The values of the keys that the phase set, as Hydra parsed them."""
        return settings_of(self.plan.overrides)

    def saved(self, key: str) -> Any:
        """The value of a key in the config of one of its runs; `UNSET` where none has left one."""
        found = (trial.saved.get(key, UNSET) for trial in self.trials)
        return next((value for value in found if value is not UNSET), UNSET)

    @property
    def values(self) -> dict[int, float]:
        """The objective by seed, of the runs that have it."""
        return {t.seed: t.value for t in self.trials if math.isfinite(t.value)}

    @property
    def has_outcome(self) -> bool:
        """Whether something is known of it: a result, or that halving stopped it."""
        return bool(self.values) or self.plan.epochs is not None


@dataclass
class PhaseResult:
    """A phase with its candidates, in the order of the plan."""

    plan: Phase
    candidates: list[CandidateResult]
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def base(self) -> dict[str, Any]:
        """The settings that all its trials share."""
        return settings_of(self.plan.base)

    @cached_property
    def keys(self) -> list[str]:
        """The keys for which candidates have different values."""
        keys = dict.fromkeys(key for one in self.candidates for key in one.settings)
        return [key for key in keys if len({self.setting(one, key) for one in self.candidates}) > 1]

    @cached_property
    def tied(self) -> dict[str, str]:
        """Keys whose value another one decides, with that one: nothing tells their effects apart.

        Two that change only together are both decided; of these the first one stays out.
        """
        columns = {key: [self.setting(one, key) for one in self.candidates] for key in self.keys}
        found: dict[str, str] = {}
        for key in reversed(self.keys):
            for other in self.keys:
                both = {*zip(columns[other], columns[key], strict=True)}
                free = other != key and other not in found
                if free and len(both) == len({*columns[other]}):
                    found[key] = other
                    break
        return {key: found[key] for key in self.keys if key in found}

    @property
    def own_keys(self) -> list[str]:
        """The keys whose effects can be told apart; see `tied` for the others."""
        return [key for key in self.keys if key not in self.tied]

    @cached_property
    def centre(self) -> CandidateResult | None:
        """What every other one differs from in a single key, where several were varied one at a
        time: means over all that share a value would mix in what the other keys do."""
        rows = [[self.setting(one, key) for key in self.own_keys] for one in self.candidates]
        if len(self.own_keys) < 2:
            return None
        for one, own in zip(self.candidates, rows, strict=True):
            if all(sum(a != b for a, b in zip(own, row, strict=True)) < 2 for row in rows):
                return one
        return None

    def setting(self, candidate: CandidateResult, key: str) -> Setting:
        """The value that a key has in one of the candidates.

        Where the candidate does not name it, the saved config of its runs tells; without one, what
        all trials of the phase share, from their words or the config of another.
        """
        if key in candidate.settings:
            return as_setting(candidate.settings[key])
        if (found := candidate.saved(key)) is not UNSET:
            return as_setting(found)
        if key not in self._shared:
            self._shared[key] = self._of_base(key)
        return as_setting(self._shared[key])

    def _of_base(self, key: str) -> Any:
        """What a candidate has that sets nothing about a key."""
        if key in self.base:
            return self.base[key]
        others = [
            one
            for one in self.candidates
            if not any(f"{key}.".startswith(f"{name}.") for name in one.settings)
        ]
        found = (one.saved(key) for one in others)
        return next((value for value in found if value is not UNSET), UNSET)

    def label(self, candidate: CandidateResult) -> str:
        """What tells it from the other candidates: ``optimizer.lr=0.001``."""
        if len(self.candidates) == 1:
            return ONLY
        return " ".join(f"{key}={self.setting(candidate, key)}" for key in self.keys) or UNSET


@dataclass
class StudyResult:
    """A study as far as it has come when it was read.

    Attributes:
        problems: the directories that could not be read.
        tables: what an analysis has made of it that others need too, by name.
    """

    plan: Journal
    phases: list[PhaseResult]
    problems: list[Problem] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def directory(self) -> Path:
        """Of the study."""
        return self.plan.directory


def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of overrides, one value each, by key; of two for one key the later one counts."""
    return {one.key_or_group: one.value() for one in parse_overrides(overrides)}


def has_readable_overrides(record: RunRecord) -> bool:
    """Whether they are in Hydra's grammar, one value each."""
    try:
        settings_of(record.overrides)
    except (HydraException, ValueError):
        return False
    return True


def as_setting(value: Any) -> Setting:
    """A number as a number, anything else as its text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number else format_value(value)


def typed(text: Any) -> Setting:
    """A value as `as_setting` gives it, from how a person wrote it: ``1e-3`` is 0.001."""
    if not isinstance(text, str):
        return as_setting(text)
    try:
        return as_setting(settings_of([f"key={text}"])["key"])
    except (HydraException, ValueError):  # a text that is not in Hydra's grammar
        return text


def objective_value(record: RunRecord) -> float:
    """The objective of a completed run, any finite number; NaN if it has none."""
    value = record.objective.get("value")
    if record.status != "completed" or value is None or not math.isfinite(value):
        return math.nan
    return float(value)


def read_phase(plan: Phase, directory: Path) -> PhaseResult:
    """A phase with the records that lie below ``directory``."""

    def read(trials: Sequence[Trial]) -> list[TrialResult]:
        return [_read_trial(trial, directory) for trial in trials]

    candidates = [
        CandidateResult(one, read(one.trials), [read(rung) for rung in one.rungs])
        for one in plan.candidates
    ]
    return PhaseResult(plan, candidates)


def _read_trial(plan: Trial, directory: Path) -> TrialResult:
    place = directory / plan.directory
    record = read_record(place)
    if record is not None and not record.is_of(plan.fingerprint):
        record = None
    return TrialResult(plan.seed, place, record)

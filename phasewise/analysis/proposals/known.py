"""What a study has found, as far as proposals go by it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from phasewise.analysis.audit.case import Case, compares
from phasewise.analysis.statistics.frame import all_keys, is_number
from phasewise.study.objectives import ranking_values
from phasewise.study.results import (
    UNSET,
    CandidateResult,
    PhaseResult,
    Setting,
    StudyResult,
    TrialResult,
)
from phasewise.text import format_value


class NothingDecided(Exception):
    """A study has no winner yet, so that there is nothing to go on from."""


class Known:
    """A study with the configuration that it came to.

    Args:
        study: as its directory tells it.

    Attributes:
        case: what the rules of the audit look at.
        phase: the phase whose winner is the final configuration.
        index: of that winner.
        keys: all that some phase varied.

    Raises:
        NothingDecided: no phase has a winner with a result.
    """

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.case = Case(study)
        results = {phase.plan.name: phase for phase in study.phases if compares(phase)}
        for plan in study.plan.latest_first():
            phase = results[plan.name]
            index = self.case.winner(phase)
            if index is not None and phase.candidates[index].values:
                self.phase, self.index = phase, index
                break
        else:
            raise NothingDecided
        self.keys = all_keys(study)

    @property
    def final(self) -> CandidateResult:
        """The configuration that won last."""
        return self.phase.candidates[self.index]

    @property
    def run(self) -> TrialResult:
        """One of its runs, with a result."""
        return next(trial for trial in self.final.trials if math.isfinite(trial.value))

    def setting(self, key: str) -> Setting:
        """What the final configuration has for a key or config group; `UNSET` if nobody knows."""
        return self.phase.setting(self.final, key)

    def saved(self, key: str) -> Any:
        """The same as its config has it, lists and sections too; ``None`` if there is no such
        key."""
        return self.run.saved.get(key)

    def tried(self, key: str) -> list[Setting]:
        """The values of a key with which something has come to a result, in any phase."""
        found = (
            phase.setting(one, key)
            for phase in self.case.compared
            for one in phase.candidates
            if one.has_outcome
        )
        return list(dict.fromkeys(found))

    def varied(self, key: str) -> list[PhaseResult]:
        """The phases that compare values of a key."""
        return [phase for phase in self.case.compared if key in phase.keys]


def mean_of(phase: PhaseResult, candidate: CandidateResult) -> float:
    """Over seeds, of what ranks candidates; NaN without a result."""
    values = ranking_values(phase.plan, candidate).values()
    return fmean(values) if values else math.nan


def words_of(phase: PhaseResult, rival: int, chosen: int) -> tuple[str, ...] | None:
    """The overrides that make a candidate of the one that was chosen; ``None`` where none do."""
    one, other = phase.candidates[rival], phase.candidates[chosen]
    own = {word.partition("=")[0]: word for word in one.plan.overrides}
    words = []
    for key in phase.keys:
        value = phase.setting(one, key)
        if value == phase.setting(other, key):
            continue
        word = next((it for name, it in own.items() if name.lstrip("+") == key), None)
        if word is None and value == UNSET:
            return None
        words.append(word or f"{key}={format_value(value)}")
    return tuple(words) or None


def numbers(values: Iterator[Any] | list[Any]) -> list[float]:
    """Those that are, ascending, each once; whole ones stay whole."""
    return sorted({value for value in values if is_number(value)})

"""When no new trial begins any more: ``study.max_hours`` and a phase's ``max_hours``.

Counted is what the trials have taken together by their records, also those of earlier calls and
those that ran side by side, so that a study that goes on goes on counting.
"""

from __future__ import annotations

import logging
from pathlib import Path

from phasewise.records.record import RunRecord, read_record
from phasewise.study.journal import Journal, OutOfHours, Phase
from phasewise.study.schema import StudyConfig
from phasewise.study.table import LEFT_OUT, placeholder_record
from phasewise.study.trial_job import TrialJob

KEY = "max_hours"
ROUNDS_KEY = f"study.follow_up.{KEY}"

log = logging.getLogger(__name__)


class HourLimits:
    """How much time the trials of a study have taken, and whether there is more.

    Args:
        study: its own limit, and those of its phases.
        old: the journal of an earlier call, whose decisions are kept.
    """

    def __init__(self, study: StudyConfig, old: Journal | None) -> None:
        self._limit = study.max_hours
        self._limits = {name: spec.max_hours for name, spec in study.phases.items()}
        self._rounds_limit = None if study.follow_up is None else study.follow_up.max_hours
        self._rounds: set[str] = set()
        self._before = {phase.name: phase.out_of_hours for phase in (old.phases if old else ())}
        self._seconds: dict[Path, float] = {}
        self._phases: dict[Path, str] = {}

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return any(
            it is not None for it in (self._limit, self._rounds_limit, *self._limits.values())
        )

    def note(self, record: RunRecord | None, phase: str) -> None:
        """What a trial has taken so far; it counts for the phase that had it first."""
        seconds = None if record is None else record.cost.get("seconds")
        if record is not None and record.was_tried and isinstance(seconds, int | float):
            self._phases.setdefault(record.directory, phase)
            self._seconds[record.directory] = float(seconds)

    def keep(self, phase: Phase) -> None:
        """Take over what was decided of a phase, unless the limit is another one now."""
        if phase.round:
            self._rounds.add(phase.name)
        before = self._before.get(phase.name)
        if before is not None and before.limit == self._limits_of(phase).get(before.key):
            phase.out_of_hours = before

    def refuse(self, phase: Phase, job: TrialJob) -> RunRecord | None:
        """Stands for a trial that does not begin; ``None`` for one that may, or has begun."""
        if not self._limits_of(phase):
            return None
        kept = phase.out_of_hours
        if kept is None or job.subdir not in kept.left:
            record = read_record(job.directory)
            if record is not None and record.is_of(job.fingerprint):
                return None
            if not self.are_up(phase):
                return None
            assert phase.out_of_hours is not None
            phase.out_of_hours.left.append(job.subdir)
        left = placeholder_record(job.directory, job.words)
        left.status = LEFT_OUT
        return left

    def are_up(self, phase: Phase) -> bool:
        """Whether no new trial of a phase begins, which it notes."""
        if phase.out_of_hours is not None:
            return True
        for key, limit in self._limits_of(phase).items():
            own: set[str] | None = {phase.name}
            if key in (f"study.{KEY}", ROUNDS_KEY):
                own = self._rounds if key == ROUNDS_KEY else None
            hours = self._used(own)
            if hours >= limit:
                phase.out_of_hours = OutOfHours(key, limit, hours)
                log.info("\n%s: %s", phase.name or "the sweep", phase.out_of_hours)
                return True
        return False

    def _limits_of(self, phase: Phase) -> dict[str, float]:
        limits = {
            f"study.{KEY}": self._limit,
            f"study.phases.{phase.name}.{KEY}": self._limits.get(phase.name),
            ROUNDS_KEY: self._rounds_limit if phase.round else None,
        }
        if phase.kind == "test":  # what was found is looked at in any case
            return {}
        return {key: limit for key, limit in limits.items() if limit is not None}

    def _used(self, phases: set[str] | None) -> float:
        """By trials of some phases; of all where ``None``."""
        kept = (s for d, s in self._seconds.items() if phases is None or self._phases[d] in phases)
        return sum(kept) / 3600

"""Which trial is running, how many are left, and what is best so far."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from phasewise.records.record import RunRecord
from phasewise.study.results import objective_value
from phasewise.text import duration

log = logging.getLogger(__name__)


class Progress:
    """Says a line per trial, with the time that is left as far as it can be told.

    Args:
        phase: its name; empty for a sweep.
        total: trials of the phase.
        done: of them, finished by an earlier call.
        later: trials of the phases to come, as far as they are known.
        mode: of the objective.
        ended: is given the record of each trial that ends, and how many of the phase are left.
        clock: seconds.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        done: int,
        later: int,
        mode: str,
        *,
        ended: Callable[[RunRecord | None, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.phase = phase
        self.total = total
        self.done = done
        self.later = later
        self.mode = mode
        self.clock = clock
        self.ended = ended
        self.best: tuple[float, str] | None = None
        self._ended = 0
        self._start = clock()

    def begin(self, name: str) -> None:
        """A trial begins in this process."""
        self._say(f"{self.done + self._ended + 1}/{self.total}", name)

    def end(self, name: str, record: RunRecord | None, *, elsewhere: bool = False) -> None:
        """A trial came to an end, good or bad; one of another process has said nothing so far."""
        self._ended += 1
        if record is not None:
            self.note(name, record)
        if elsewhere and record is not None:
            value = objective_value(record)
            result = f"{value:.4g}" if math.isfinite(value) else record.outcome
            self._say(f"{self.done + self._ended}/{self.total} done", f"{name}: {result}")
        if self.ended is not None:
            self.ended(record, self.total - self.done - self._ended)

    def note(self, name: str, record: RunRecord) -> None:
        """Remember a result, also of an earlier call."""
        value, sign = objective_value(record), 1 if self.mode == "max" else -1
        if math.isfinite(value) and (self.best is None or sign * value > sign * self.best[0]):
            self.best = value, name

    def _say(self, where: str, what: str) -> None:
        notes = [] if self.best is None else [f"best so far {self.best[0]:.4g}: {self.best[1]}"]
        if self._ended:
            left = self.total - self.done - self._ended + self.later
            seconds = (self.clock() - self._start) / self._ended * left
            notes.append(f"about {duration(round(seconds))} left")
        place = f"{self.phase} {where}".strip()
        log.info("\n[%s] %s%s", place, what, f"   ({'; '.join(notes)})" if notes else "")

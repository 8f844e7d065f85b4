"""Runs a phase whose trials are asked for one batch after the other.

A batch is asked when all those before it have been told, in the order of the trials and with the
means over their seeds. So the trials follow from the seed of the sampler and the records alone: a
call that goes on asks for the same ones again, and finds in their records what they came to.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

from omegaconf import OmegaConf

from phasewise.records.record import RunRecord
from phasewise.study.halving import value_reached
from phasewise.study.journal import Phase
from phasewise.study.objectives import scalar_of
from phasewise.study.plan import Planner, Stage
from phasewise.study.sampling import Sampler, Values
from phasewise.study.search_plan import space_of
from phasewise.study.trial_job import TrialJob
from phasewise.text import format_value

MOST_REPEATS = 50
"""So often a sampler may ask in a row for what was tried before one is drawn at random."""

EXHAUSTED = "all configurations of its space were tried"

log = logging.getLogger(__name__)


class Searcher:
    """Asks, has run and tells.

    Args:
        stage: of the phase, with the incumbent as its only candidate; the others are appended.
        planner: makes candidates.
        launch: runs the trials of a part of the stage.
        outcome: of a trial.
        is_over: whether no new trial of a phase begins; asked before each batch.
    """

    def __init__(
        self,
        stage: Stage,
        planner: Planner,
        launch: Callable[[Stage], None],
        outcome: Callable[[TrialJob], RunRecord],
        is_over: Callable[[Phase], bool],
    ) -> None:
        assert stage.phase.search is not None
        self.stage, self.phase, self.plan = stage, stage.phase, stage.phase.search
        self.planner = planner
        self.launch, self.outcome, self.is_over = launch, outcome, is_over
        self.space = space_of(self.plan)
        self.sampler = Sampler(self.plan, self.space, self.phase.objective["mode"])
        self._rows: dict[tuple[str, ...], int] = {}
        self._told: dict[int, float | None] = {}
        self._stopped: dict[int, tuple[float, int]] = {}  # by halving, at which rung
        self._pending: list[tuple[int, int]] = []  # number of an asked trial, its candidate

    def run(self, before: Phase | None = None) -> None:
        """Until as many were asked for as are wanted, or there is nothing more to ask for.

        Args:
            before: the phase as an earlier call left it: the same is asked for again.
        """
        self._begin_with_the_incumbent()
        batch = [0]
        while True:
            room = min(self.plan.parallel - len(batch), self._left())
            batch += [row for _ in range(room) if (row := self._next()) is not None]
            if not batch:
                break
            part = self._part(batch)
            self.launch(part)
            for place, row in enumerate(batch):
                self._told[row] = self._value(row)
                if (stopped := value_reached(part, place)) is not None:
                    self._stopped[row] = stopped
            for number, row in sorted(self._pending):
                self._tell(number, row)
            self._pending, batch = [], []
            self.phase.epochs_saved = part.phase.epochs_saved
            if self._left() and self.is_over(self.phase):
                self.plan.ended = "its time was up"
        if reason := _difference(before, self.phase):
            log.warning("\n%s: %s", self.phase.name, reason)

    def _left(self) -> int:
        """How many may still be asked for; the incumbent does not count."""
        return 0 if self.plan.ended else self.plan.trials - (len(self.phase.candidates) - 1)

    def _begin_with_the_incumbent(self) -> None:
        """It is trial 0; the sampler learns of it where it is one of its space."""
        own = tuple(job.fingerprint for job in self.stage.jobs[0])
        self.stage.once[own] = 0
        values, outside = self._values_of_base()
        if not outside:
            number, _ = self.sampler.ask(values)
            self._pending.append((number, 0))
            self._rows[self._words(values)] = 0
        else:
            log.info(
                "\n%s: the incumbent competes, but the sampler does not learn from it, for it is "
                "not in the space that is searched: %s",
                self.phase.name,
                outside,
            )

    def _values_of_base(self) -> tuple[Values, str]:
        """The incumbent's values of what is searched, and what of it lies outside."""
        words = self.planner.words(self.phase, [], self.phase.seeds[0])
        config = self.planner.composer.config_of(words)
        found: Values = {}
        for dimension in self.space.dimensions:
            here = self.planner.choices.chosen(dimension.name, words)
            here = OmegaConf.select(config, dimension.name) if here is None else here
            plain = OmegaConf.to_container(here) if OmegaConf.is_config(here) else here
            word = f"{dimension.key}={format_value(plain)}"
            value = dimension.holds(word)
            if value is None:
                return {}, word
            found[dimension.name] = value
        identity = self.planner.composer.try_fingerprint
        same = self.planner.words(self.phase, self._exactly(found), self.phase.seeds[0])
        is_same = identity(same, "", {}) == identity(words, "", {})
        return (found, "") if is_same else ({}, " ".join(["it is without", *self.space.fixed]))

    def _exactly(self, values: Values) -> list[str]:
        """Overrides with all digits of the values, as the incumbent has them."""
        dimensions = ((one, values[one.name]) for one in self.space.dimensions)
        exact = [str(it) if one.kind == "choice" else f"{one.key}={it!r}" for one, it in dimensions]
        return [*self.space.fixed, *exact]

    def _words(self, values: Values) -> tuple[str, ...]:
        own = (one.word(values[one.name]) for one in self.space.dimensions)
        return (*self.space.fixed, *own)

    def _next(self) -> int | None:
        """The candidate of the next configuration that is new; ``None`` where there is none."""
        repeats = 0
        while self._left():
            if len(self._rows) >= self.space.size:
                self.plan.ended = EXHAUSTED
                return None
            # a sampler that has found its place asks for nothing else
            drawn = self.sampler.at_random() if repeats >= MOST_REPEATS else None
            if drawn is not None and self._words(drawn) in self._rows:
                continue
            number, values = self.sampler.ask(drawn)
            row, is_new = self._candidate(values)
            can_run = bool(self.stage.jobs[row])
            if row in self._told or not can_run:
                self._tell(number, row)
            else:
                self._pending.append((number, row))
            if is_new and can_run:
                return row
            repeats += not is_new
            self.plan.repeated += not is_new
        return None

    def _tell(self, number: int, row: int) -> None:
        """What came of a candidate, as often as it was asked for."""
        if row in self._stopped:
            self.sampler.tell_stopped(number, *self._stopped[row])
        else:
            self.sampler.tell(number, self._told.get(row))

    def _candidate(self, values: Values) -> tuple[int, bool]:
        """The index of the candidate that has these values, and whether there was none before."""
        words, row = self._words(values), len(self.phase.candidates)
        if words in self._rows:
            return self._rows[words], False
        self.planner.add(self.stage, list(words), [one.name for one in self.space.dimensions])
        identity = tuple(job.fingerprint for job in self.stage.jobs[row])
        twin = self.stage.once.setdefault(identity, row) if identity else row
        if twin != row:  # its words are others, and it computes the same
            del self.phase.candidates[row], self.stage.jobs[row]
        self._rows[words] = twin
        return twin, twin == row

    def _value(self, row: int) -> float | None:
        """The mean over the seeds; ``None`` where one has no result."""
        found = [scalar_of(self.phase, self.outcome(job)) for job in self.stage.jobs[row]]
        return fmean(found) if found and all(map(math.isfinite, found)) else None

    def _part(self, rows: list[int]) -> Stage:
        """Some candidates of the stage as a stage; it shares them."""
        incumbent = rows.index(0) if 0 in rows else None
        candidates = [self.phase.candidates[row] for row in rows]
        phase = replace(self.phase, candidates=candidates, incumbent=incumbent)
        jobs = [self.stage.jobs[row] for row in rows]
        part = Stage(phase, self.stage.spec, jobs, progress=self.stage.progress)
        if phase.halving is not None:
            self.planner.add_rungs(self.stage)
            part.rung_jobs = [self.stage.rung_jobs[row] for row in rows]
        return part


def _difference(before: Phase | None, now: Phase) -> str:
    """What to say where other trials were asked for than in an earlier call; else nothing.

    The same is asked again while the words, the sampler and all results are the same.
    """
    if before is None or before.search is None or now.search is None or before.base != now.base:
        return ""
    settings = ("sampler", "parallel", "startup", "seed", "fixed", "space")
    if any(getattr(before.search, it) != getattr(now.search, it) for it in settings):
        return ""
    pairs = zip(before.candidates, now.candidates, strict=False)
    for number, (old, new) in enumerate(pairs):
        if old.overrides != new.overrides:
            cause = f"{before.search.library} asked then, {now.search.library} does now"
            if before.search.library == now.search.library:
                cause = "results of trials before it have changed"
            return (
                f"from trial {number} on ({' '.join(new.overrides)}; it was "
                f"{' '.join(old.overrides)}) other ones are asked for than before: {cause}"
            )
    return ""

"""Runs a phase whose trials are asked for one batch after the other.

A batch is asked when all those before it have been told, in the order of the trials and with the
means over their seeds. So the trials follow from the seed of the sampler and the records alone: a
call that goes on asks for the same ones again, and finds in their records what they came to. The
branches of a phase are searched each by itself, side by side: a batch has that of each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from phasewise.records.record import RunRecord
from phasewise.study.asking import Asker, Told
from phasewise.study.halving import value_reached
from phasewise.study.journal import Branch, Phase
from phasewise.study.objectives import scalar_of
from phasewise.study.plan import Planner, Stage
from phasewise.study.trial_job import TrialJob

OUT_OF_TIME = "its time was up"

log = logging.getLogger(__name__)


class Searcher:
    """Asks, has run and tells.

    Args:
        stage: of the phase, with its incumbents as its only candidates; the others are appended.
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
        self.told = Told()
        branches: Sequence[Branch | None] = self.phase.branches or [None]
        self.askers = [Asker(stage, planner, self.told, branch) for branch in branches]

    def run(self, before: Phase | None = None) -> None:
        """Until as many were asked for as are wanted, or there is nothing more to ask for.

        Args:
            before: the phase as an earlier call left it: the same is asked for again.
        """
        while any(batches := [asker.ask() for asker in self.askers]):
            part = self._part(batches)
            self.launch(part)
            for place, row in enumerate(row for batch in batches for row in batch):
                self.told.values[row] = self._value(row)
                if (stopped := value_reached(part, place)) is not None:
                    self.told.stopped[row] = stopped
            for asker in self.askers:
                asker.tell()
            self.phase.epochs_saved = part.phase.epochs_saved
            waiting = [asker for asker in self.askers if asker.left]
            if waiting and self.is_over(self.phase):
                for asker in waiting:
                    asker.end(OUT_OF_TIME)
        _sum_up(self.phase)
        if reason := _difference(before, self.phase):
            log.warning("\n%s: %s", self.phase.name, reason)

    def _value(self, row: int) -> float | None:
        """The mean over the seeds; ``None`` where one has no result."""
        found = [scalar_of(self.phase, self.outcome(job)) for job in self.stage.jobs[row]]
        return fmean(found) if found and all(map(math.isfinite, found)) else None

    def _part(self, batches: Sequence[Sequence[int]]) -> Stage:
        """Some candidates of the stage as a stage; it shares them."""
        rows = [row for batch in batches for row in batch]
        place = {row: number for number, row in enumerate(rows)}
        phase = replace(
            self.phase,
            candidates=[self.phase.candidates[row] for row in rows],
            incumbent=None if self.phase.incumbent is None else place.get(self.phase.incumbent),
            branches=[
                Branch(it.level, [place[row] for row in batch], place.get(asker.incumbent))
                for it, asker, batch in zip(self.phase.branches, self.askers, batches, strict=False)
            ],
        )
        jobs = [self.stage.jobs[row] for row in rows]
        part = Stage(phase, self.stage.spec, jobs, progress=self.stage.progress)
        if phase.halving is not None:
            self.planner.add_rungs(self.stage)
            part.rung_jobs = [self.stage.rung_jobs[row] for row in rows]
        return part


def _sum_up(phase: Phase) -> None:
    """What came of the branches of a phase together."""
    if phase.search is None or not phase.branches:
        return
    phase.search.repeated = sum(branch.repeated for branch in phase.branches)
    reasons = {branch.level: branch.ended for branch in phase.branches}
    same = len({*reasons.values()}) == 1
    told = [f"{level}: {why}" for level, why in reasons.items() if why]
    phase.search.ended = next(iter(reasons.values())) if same else ", ".join(told)


def _difference(before: Phase | None, now: Phase) -> str:
    """What to say where other trials were asked for than in an earlier call; else nothing.

    The same is asked again while the words, the sampler and all results are the same.
    """
    if before is None or before.search is None or now.search is None or before.base != now.base:
        return ""
    settings = ("sampler", "parallel", "startup", "seed", "fixed", "space")
    if any(getattr(before.search, it) != getattr(now.search, it) for it in settings):
        return ""
    if _starts(before) != _starts(now):
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


def _starts(phase: Phase) -> list[list[str]]:
    rows = [branch.incumbent for branch in phase.rivals()]
    return [phase.candidates[row].overrides for row in rows if row is not None]

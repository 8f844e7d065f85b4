"""Which weights a study keeps, and how much room its runs need.

Runs are large and records small: of hundreds of trials the records decide, and few networks are
wanted afterwards. What was removed says so in its place (`phasewise.records.checkpoints`), and a
run whose network is needed after all is trained again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from phasewise.records.checkpoints import (
    FOLDER,
    has_weights,
    remove_last,
    remove_weights,
    why_removed,
)
from phasewise.records.record import RunRecord, read_record
from phasewise.storage import amount, free_bytes
from phasewise.study.journal import Journal, Phase
from phasewise.study.plan import Stage
from phasewise.study.trial_job import TrialJob

Policy = Literal["winners", "best", "all", "none"]

WHERE = "study.checkpoints=best, typed with the study, keeps those of each trial"
LAST_PER_BEST = 3
"""How many times larger ``last.ckpt`` is: Adam keeps two more numbers per weight."""
LOOKED_AT = 10
"""So many run directories are measured."""

log = logging.getLogger(__name__)


def policy_of(chosen: Policy | None, *, is_sweep: bool) -> Policy:
    """What ``study.checkpoints`` means; nobody expects a plain sweep to remove weights."""
    return chosen or ("best" if is_sweep else "winners")


def remove_needless(stages: Sequence[Stage], policy: Policy, spared: Collection[Path] = ()) -> None:
    """Remove the weights that no later step needs; the phases of ``stages`` are decided.

    Kept are, by the default, those of each phase's winner, of the configuration that the study
    started from (it is tested in the end) and of what the test stage ran. A trial that failed
    keeps what it may go on from.

    Args:
        stages: what ran so far. Called again with the same, it finishes what a kill broke off.
        policy: of the study.
        spared: what stays for now; who lost here may have won a later phase, as an earlier call
            has found.
    """
    if policy == "all":
        return
    freed: list[int] = []
    needed = {job.directory for number, it in enumerate(stages) for job in _needed(it, not number)}
    for stage in stages:
        phase = stage.phase
        for candidate, jobs in zip(phase.candidates, stage.jobs, strict=True):
            for directory in (job.directory for job in jobs):
                record = read_record(directory)
                ended = record is not None and record.status in ("completed", "diverged")
                if not ended and candidate.epochs is None:
                    continue
                remove_last(directory)
                if policy == "best" or phase.winner is None:
                    continue
                if directory not in needed and directory not in spared and has_weights(directory):
                    freed.append(_size_of_weights(directory))
                    remove_weights(directory, _lost(phase))
    if freed:
        count = f"{len(freed)} trial{'s' * (len(freed) > 1)} that did not win"
        log.info("\nweights of %s removed (%s): %s", count, amount(sum(freed)), WHERE)


def decided_on(journal: Journal | None) -> set[Path]:
    """The runs whose weights stay by the decisions of an earlier call, if there was one."""
    found: set[Path] = set()
    if journal is None:
        return found
    for number, phase in enumerate(journal.phases):
        for row in _rows(phase, not number):
            trials = phase.candidates[row].trials
            found.update(journal.directory / trial.directory for trial in trials)
    return found


def remove_all(stages: Sequence[Stage]) -> None:
    """Remove the weights of all runs of a study that has ended."""
    reason = f"removed when the study had ended (study.checkpoints=none); {WHERE}"
    for job in (job for stage in stages for jobs in stage.jobs for job in jobs):
        remove_weights(job.directory, reason)


def forget(jobs: Iterable[TrialJob]) -> list[TrialJob]:
    """Have completed runs without their weights count as unfinished: they are trained again.

    Returns:
        Those that are.
    """
    found = []
    for job in jobs:
        record = read_record(job.directory)
        gone = why_removed(job.directory)
        if record is None or record.status != "completed" or gone is None:
            continue
        log.info("\n%s: its weights are needed, and were %s: it is trained again", job.subdir, gone)
        replace(record, status="interrupted", error=f"its weights were {gone}").write()
        found.append(job)
    return found


def _needed(stage: Stage, first: bool) -> Iterable[TrialJob]:
    for row in _rows(stage.phase, first):
        yield from stage.jobs[row]


def _rows(phase: Phase, first: bool) -> set[int]:
    """The candidates of a phase whose weights stay."""
    if phase.kind == "test":
        return set(range(len(phase.candidates)))
    own = (branch.winner for branch in phase.branches)  # a later phase may go on from it and win
    rows = {phase.winner, phase.incumbent if first else None, *own}
    return {row for row in rows if row is not None and row < len(phase.candidates)}


def _lost(phase: Phase) -> str:
    where = f"phase {phase.name}" if phase.name else "the sweep"
    return f"removed by the study when another configuration had won {where}; {WHERE}"


@dataclass(frozen=True)
class Sizes:
    """Of one run on the disk, in bytes: its network, and all else that it leaves."""

    weights: float
    rest: float


class Room:
    """How much room a study needs, by the runs that have completed so far.

    Args:
        journal: its phases say how many trials there are.
        policy: of the study.
        records: of runs that are there.
    """

    def __init__(self, journal: Journal, policy: Policy, records: Iterable[RunRecord] = ()) -> None:
        self.journal = journal
        self.policy = policy
        self._weights: dict[Path, float] = {}
        self._rest: dict[Path, int] = {}
        self._told: float | None = None
        for record in records:
            self.add(record)

    def add(self, record: RunRecord) -> None:
        """Count a run, if it has completed and its network is known."""
        size = record.cost.get("checkpoint_mb")
        if record.status != "completed" or not size:
            return
        self._weights[record.directory] = size * 2**20
        if len(self._rest) < LOOKED_AT:
            self._rest[record.directory] = _size_without_weights(record.directory)

    @property
    def sizes(self) -> Sizes | None:
        """The mean of the runs so far; None before the first."""
        if not self._weights:
            return None
        return Sizes(fmean(self._weights.values()), fmean(self._rest.values()))

    def line(self, left: Sequence[int]) -> tuple[str, bool]:
        """What is told, and whether there is too little; of trials ``left`` to run, by phase."""
        place, sizes = self.journal.directory, self.sizes
        free = free_bytes(place)
        there = "" if free is None else f"{amount(free)} are free in {place}"
        if sizes is None:
            return f"disk: {there}; the first trial will tell what is needed", False
        needed = self.needed(left, sizes)
        text = f"disk: about {amount(needed)} are needed, by {amount(sizes.weights)} a network"
        if free is None or free >= needed:
            return "; ".join(filter(None, (text, there))), False
        advice = "; a trial that does not fit is refused, and the same command goes on when it does"
        return f"{text}, and only {there}{advice}", True

    def tell(self, left: Sequence[int]) -> None:
        """Say it once, again where twice as much is needed, and once more where there is less."""
        if (sizes := self.sizes) is None or not any(left):
            return
        needed = self.needed(left, sizes)
        text, short = self.line(left)
        if self._told is not None and needed < 2 * self._told:
            return
        self._told = needed
        log.log(logging.WARNING if short else logging.INFO, "\n%s", text)

    def needed(self, left: Sequence[int], sizes: Sizes) -> float:
        """Bytes that trials still take at most: what stays of them, and the one that is trained.

        Args:
            left: how many have to run, of each phase that is not done.
            sizes: of a run.
        """
        last = LAST_PER_BEST * sizes.weights
        running, total = 2 * last, sum(left)  # twice: one is written beside the one before
        if self.policy == "all":
            return total * (sizes.rest + sizes.weights + last) + last
        kept = total
        if self.policy != "best":  # those of one phase at a time, and of the winners before
            seeds = max((len(phase.seeds) for phase in self.journal.phases), default=1)
            kept = min(total, max(left, default=0) + len(left) * seeds)
        return total * sizes.rest + kept * sizes.weights + running


def _size_of_weights(run: Path) -> int:
    return sum(path.stat().st_size for path in (run / FOLDER).glob("*.ckpt"))


def _size_without_weights(run: Path) -> int:
    files = (path for path in run.rglob("*") if path.is_file())
    return sum(it.stat().st_size for it in files if FOLDER not in it.relative_to(run).parts)

"""Runs trials with any of Hydra's launchers and loses none of them when a worker dies."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from phasewise.config.lifecycle import mark_failed
from phasewise.errors import UserError
from phasewise.records.lock import wait_until_free
from phasewise.records.record import RunRecord, read_record
from phasewise.storage import storage_error
from phasewise.study.job import UnusableResult
from phasewise.study.launcher_plugins import (
    cancelled_on_interrupt,
    configure,
    side_by_side,
    wait_for_jobs,
)
from phasewise.study.progress import Progress
from phasewise.study.table import LEFT_OUT, UNFINISHED, placeholder_record
from phasewise.study.trial_job import TrialJob

MAX_CRASHES = 2
"""How many workers may die of a trial before it counts as failed."""

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


def launched_words(jobs: Sequence[TrialJob], more: Sequence[str]) -> list[list[str]]:
    """The overrides that a launcher is given for each job.

    Args:
        jobs: the trials.
        more: what concerns this launch only.
    """
    return [job.launched_as(more) for job in jobs]


Launched = Callable[[Sequence[TrialJob], Sequence[str]], list[list[str]]]


@dataclass
class _LostTrials:
    """Trials that died with a worker, those that had not begun, and what the launcher said."""

    crashed: list[TrialJob]
    not_started: list[TrialJob]
    reason: str


class TrialExecutor:
    """Launches trials in batches: one by one in this process, all at once elsewhere.

    Args:
        launcher: any of Hydra's.
        batch_size: most trials that the launcher gets at once; ``None`` leaves it to the launcher.
        launched: the words that the launcher is given for trials, and what concerns this launch.

    Attributes:
        returns: what the jobs returned, batch by batch.
    """

    def __init__(
        self, launcher: Launcher, batch_size: int | None, launched: Launched = launched_words
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={batch_size} must be null or at least 1")
        self.launcher = launcher
        self.launched = launched
        self.in_process = _is_basic(launcher)
        self.batch_size = 1 if self.in_process else None
        self.batch_size = configure(launcher, batch_size or self.batch_size)
        self.returns: list[Sequence[JobReturn]] = []
        self._jobs: dict[str, JobReturn] = {}
        self._left_out: dict[str, RunRecord] = {}
        self._launched = 0

    def keep_batches_small(self) -> None:
        """Give the launcher no more trials at once than it runs side by side, where it tells, so
        that something can be decided before each of them begins."""
        self.batch_size = self.batch_size or side_by_side(self.launcher)

    def run(
        self,
        jobs: Sequence[TrialJob],
        more: Sequence[str],
        progress: Progress,
        known: Callable[[TrialJob], RunRecord | None] = lambda job: None,
    ) -> None:
        """Run trials; one that fails stops no other.

        Args:
            jobs: in different directories.
            more: overrides that concern this launch only.
            progress: is told which trials begin and end.
            known: asked before each batch: the record of a trial that need not run, by what those
                before it have shown.

        Raises:
            KeyboardInterrupt, SystemExit: as a job in this process raised it.
            StorageError: a disk is full or fails: no trial is to blame, and the next would meet
                the same.
            Exception: the launcher's own, if it could not start anything.
        """
        size = self.batch_size or max(len(jobs), 1)
        crashes: Counter[str] = Counter()
        queue = [list(jobs[first : first + size]) for first in range(0, len(jobs), size)]
        while queue:
            batch = []
            for job in queue.pop(0):
                if (record := known(job)) is None:
                    batch.append(job)
                elif record.status == LEFT_OUT:
                    self._left_out[job.subdir] = record
                else:
                    progress.end(job.name, record, elsewhere=True)
            if not batch:
                continue
            loss = self._launch(batch, more, progress)
            crashes.update(job.subdir for job in loss.crashed)
            alone = [[job] for job in loss.crashed if crashes[job.subdir] < MAX_CRASHES]
            queue = [*alone, *queue]  # alone: the next death has one cause
            if loss.not_started:
                queue.append(loss.not_started)
            for job in loss.crashed:
                if crashes[job.subdir] == MAX_CRASHES:
                    progress.end(job.name, _mark_crashed(job, loss.reason), elsewhere=True)

    def _launch(
        self, batch: list[TrialJob], more: Sequence[str], progress: Progress
    ) -> _LostTrials:
        """Launch a batch; returns what was lost with a worker."""
        words = self.launched(batch, more)
        number, self._launched = self._launched, self._launched + len(batch)
        before = [_modified(job.directory) for job in batch]  # of the records of earlier calls
        with self._watched(batch, progress), cancelled_on_interrupt():
            try:
                returns = self.launcher.launch(words, initial_job_idx=number)
            except Exception as error:
                if self.in_process:
                    raise
                return _find_lost(batch, before, error)
        self.returns.append(returns)
        self._jobs |= {job.subdir: it for job, it in zip(batch, returns, strict=True)}
        for done in returns:
            # `return_value` would raise it, and print to stderr first
            if done.status == JobStatus.FAILED:
                if full := storage_error(done._return_value):
                    raise full
                if isinstance(done._return_value, UnusableResult):
                    raise done._return_value
        return _LostTrials([], [], "")

    @contextmanager
    def _watched(self, batch: list[TrialJob], progress: Progress) -> Iterator[None]:
        """Tell ``progress`` of each trial that ends, while a launcher is at work on many."""
        if self.in_process and len(batch) == 1:
            (job,) = batch
            progress.begin(job.name)
            yield
            progress.end(job.name, read_record(job.directory))
            return
        stop = threading.Event()
        thread = threading.Thread(target=_watch, args=(batch, progress, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def outcome(self, job: TrialJob) -> RunRecord:
        """The record of a trial, corrected by what the launcher saw.

        A trial without a record, or whose record still says ``running``, is ``failed`` if its job
        raised, else ``unfinished``; one that says ``completed`` is ``failed`` if its job raised.
        """
        record = read_record(job.directory) or self._left_out.get(job.subdir)
        record = record or placeholder_record(job.directory, job.words)
        done = self._jobs.get(job.subdir)
        if done is not None and done.status == JobStatus.FAILED:
            error = done._return_value
            if (full := storage_error(error)) is not None:
                return replace(record, status="interrupted", error=str(full))
            if record.status in ("completed", "running", UNFINISHED):
                return replace(record, status="failed", error=f"{type(error).__name__}: {error}")
        elif record.status in ("running", UNFINISHED):
            return replace(record, status=UNFINISHED, error="left no final record")
        return record


def _is_basic(launcher: Launcher) -> bool:
    """Whether trials run in this process: by name, for Hydra loads its plugins' files anew, and
    whoever imported one before that has another class of it."""
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(launcher).__mro__}
    return f"{BasicLauncher.__module__}.{BasicLauncher.__name__}" in names


def has_ended(record: RunRecord) -> bool:
    """Whether a trial came to an end of its own: final, or paused."""
    return record.is_final or record.status == "paused"


def _watch(batch: list[TrialJob], progress: Progress, stop: threading.Event) -> None:
    open_jobs = {
        job.subdir: (job, _modified(job.directory)) for job in batch
    }  # an old record, of a trial that is run again, is no news
    while True:
        last = stop.wait(POLL_SECONDS)
        for subdir, (job, modified) in list(open_jobs.items()):
            if _modified(job.directory) == modified:
                continue
            record = read_record(job.directory)
            if record is not None and has_ended(record):
                progress.end(job.name, record, elsewhere=True)
                del open_jobs[subdir]
        if last:
            return


def _modified(directory: Path) -> int:
    try:
        return (directory / "record.json").stat().st_mtime_ns
    except OSError:
        return 0


def _find_lost(batch: Sequence[TrialJob], before: Sequence[int], crash: Exception) -> _LostTrials:
    """What a launcher has left behind that raised ``crash``, when all of it has come to rest."""
    wait_for_jobs(crash)
    if (full := storage_error(crash)) is not None:
        raise full from crash
    for job in batch:
        wait_until_free(job.directory)
    begun = [
        _modified(job.directory) != modified for job, modified in zip(batch, before, strict=True)
    ]
    if not any(begun):
        raise crash
    log.warning("\na worker died (%s); the study goes on", type(crash).__name__)
    records = [read_record(job.directory) for job in batch]
    ended = [record is not None and has_ended(record) for record in records]
    return _LostTrials(
        [job for job, began, end in zip(batch, begun, ended, strict=True) if began and not end],
        [job for job, began in zip(batch, begun, strict=True) if not began],
        f"{type(crash).__name__}: {crash}",
    )


def _mark_crashed(job: TrialJob, reason: str) -> RunRecord | None:
    record = read_record(job.directory)
    if record is not None:
        what = f"its worker died {MAX_CRASHES} times; often the machine's memory ran out"
        mark_failed(record, f"{what}\n{reason}")
    return record

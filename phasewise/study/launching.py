"""Runs trials with any of Hydra's launchers and loses none of them when a worker dies."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from phasewise.config.lifecycle import bury
from phasewise.errors import UserError
from phasewise.records.lock import wait_until_free
from phasewise.records.record import RunRecord, read_record
from phasewise.storage import storage_error
from phasewise.study.launchers import ended_with_us, settle, wait_for_others
from phasewise.study.plan import Job
from phasewise.study.progress import Progress
from phasewise.study.table import UNFINISHED, unfinished

LIVES = 2
"""How many workers may die of a trial before it counts as failed."""

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass
class _Loss:
    """Trials that died with a worker, those that had not begun, and what the launcher said."""

    struck: list[Job]
    waiting: list[Job]
    reason: str


class Crew:
    """Launches trials in batches: one by one in this process, all at once elsewhere.

    Args:
        launcher: any of Hydra's.
        batch_size: most trials that the launcher gets at once; ``None`` leaves it to the launcher.

    Attributes:
        returns: what the jobs returned, batch by batch.
    """

    def __init__(self, launcher: Launcher, batch_size: int | None) -> None:
        if batch_size is not None and batch_size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={batch_size} must be null or at least 1")
        self.launcher = launcher
        self.in_process = isinstance(launcher, BasicLauncher)
        self.batch_size = 1 if self.in_process else None
        self.batch_size = settle(launcher, batch_size or self.batch_size)
        self.returns: list[Sequence[JobReturn]] = []
        self._jobs: dict[str, JobReturn] = {}
        self._launched = 0

    def run(self, jobs: Sequence[Job], more: Sequence[str], progress: Progress) -> None:
        """Run trials; one that fails stops no other.

        Args:
            jobs: in different directories.
            more: overrides that concern this launch only.
            progress: is told which trials begin and end.

        Raises:
            KeyboardInterrupt, SystemExit: as a job in this process raised it.
            StorageError: a disk is full or fails: no trial is to blame, and the next would meet
                the same.
            Exception: the launcher's own, if it could not start anything.
        """
        size = self.batch_size or max(len(jobs), 1)
        deaths: Counter[str] = Counter()
        queue = [list(jobs[first : first + size]) for first in range(0, len(jobs), size)]
        while queue:
            loss = self._launch(queue.pop(0), more, progress)
            deaths.update(job.subdir for job in loss.struck)
            alone = [[job] for job in loss.struck if deaths[job.subdir] < LIVES]
            queue = [*alone, *queue]  # alone: the next death has one cause
            if loss.waiting:
                queue.append(loss.waiting)
            for job in loss.struck:
                if deaths[job.subdir] == LIVES:
                    progress.end(job.name, _bury(job, loss.reason), elsewhere=True)

    def _launch(self, batch: list[Job], more: Sequence[str], progress: Progress) -> _Loss:
        """Launch a batch; returns what was lost with a worker."""
        words = [job.launched_as(more) for job in batch]
        number, self._launched = self._launched, self._launched + len(batch)
        before = [_stamp(job.directory) for job in batch]  # of the records of earlier calls
        with self._watched(batch, progress), ended_with_us():
            try:
                returns = self.launcher.launch(words, initial_job_idx=number)
            except Exception as error:
                if self.in_process:
                    raise
                return _survey(batch, before, error)
        self.returns.append(returns)
        self._jobs |= {job.subdir: it for job, it in zip(batch, returns, strict=True)}
        for done in returns:
            # `return_value` would raise it, and print to stderr first
            if done.status == JobStatus.FAILED and (full := storage_error(done._return_value)):
                raise full
        return _Loss([], [], "")

    @contextmanager
    def _watched(self, batch: list[Job], progress: Progress) -> Iterator[None]:
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

    def outcome(self, job: Job) -> RunRecord:
        """The record of a trial, corrected by what the launcher saw.

        A trial without a record, or whose record still says ``running``, is ``failed`` if its job
        raised, else ``unfinished``; one that says ``completed`` is ``failed`` if its job raised.
        """
        record = read_record(job.directory) or unfinished(job.directory, job.words)
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


def settled(record: RunRecord) -> bool:
    """Whether a trial came to an end of its own: final, or paused."""
    return record.is_final or record.status == "paused"


def _watch(batch: list[Job], progress: Progress, stop: threading.Event) -> None:
    open_jobs = {
        job.subdir: (job, _stamp(job.directory)) for job in batch
    }  # an old record, of a trial that is run again, is no news
    while True:
        last = stop.wait(POLL_SECONDS)
        for subdir, (job, stamp) in list(open_jobs.items()):
            if _stamp(job.directory) == stamp:
                continue
            record = read_record(job.directory)
            if record is not None and settled(record):
                progress.end(job.name, record, elsewhere=True)
                del open_jobs[subdir]
        if last:
            return


def _stamp(directory: Path) -> int:
    try:
        return (directory / "record.json").stat().st_mtime_ns
    except OSError:
        return 0


def _survey(batch: Sequence[Job], before: Sequence[int], death: Exception) -> _Loss:
    """What a launcher has left behind that raised ``death``, when all of it has come to rest."""
    wait_for_others(death)
    if (full := storage_error(death)) is not None:
        raise full from death
    for job in batch:
        wait_until_free(job.directory)
    begun = [_stamp(job.directory) != stamp for job, stamp in zip(batch, before, strict=True)]
    if not any(begun):
        raise death
    log.warning("\na worker died (%s); the study goes on", type(death).__name__)
    records = [read_record(job.directory) for job in batch]
    ended = [record is not None and settled(record) for record in records]
    return _Loss(
        [job for job, began, end in zip(batch, begun, ended, strict=True) if began and not end],
        [job for job, began in zip(batch, begun, strict=True) if not began],
        f"{type(death).__name__}: {death}",
    )


def _bury(job: Job, reason: str) -> RunRecord | None:
    record = read_record(job.directory)
    if record is not None:
        what = f"its worker died {LIVES} times; often the machine's memory ran out"
        bury(record, f"{what}\n{reason}")
    return record

"""What a study's directory holds is not computed again, whichever phase it was computed for."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from common.runs.record import DATA_MARK, RunRecord, read_record
from studies.compose import Composer
from studies.plan import Job, Stage, foreign_runs
from studies.rebuild import run_folders
from studies.sound import unsound_record

SUPERSEDED = "superseded"

log = logging.getLogger(__name__)


class RunIndex:
    """The completed runs in a study's directory, found by what they computed.

    Each record is read once, when the study begins: those of all phases' folders, also of phases
    that the study no longer has, and those that were set aside.

    Attributes:
        knows_data: whether some run has recorded the content of its data.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.knows_data = False
        self._runs: dict[str, list[RunRecord]] = {}
        self._used: set[str] = set()  # by trials that lie elsewhere, so they stay where they are
        for root in (directory, directory / SUPERSEDED):
            for place, _ in run_folders(root, []):
                record = read_record(place)
                if record is not None:
                    self.add(record)

    def add(self, record: RunRecord) -> None:
        """Remember a run, if it has completed."""
        self.knows_data = self.knows_data or "hash" in record.data
        runs = self._runs.setdefault(record.fingerprint, [])
        known = any(run.directory == record.directory for run in runs)
        if record.status == "completed" and not known and unsound_record(record) is None:
            runs.append(record)

    def find(self, identity: str) -> RunRecord | None:
        """A run that computed what has this identity; its own data's before one of unknown data."""
        runs = [
            run
            for run in self._runs.get(identity.partition(DATA_MARK)[0], [])
            if run.is_of(identity)
        ]
        return next((run for run in runs if run.identity == identity), next(iter(runs), None))

    def reuse(self, stage: Stage) -> None:
        """Point the trials of a phase to the runs that are there, and tell which."""
        told: Counter[str] = Counter()
        for candidate, jobs in zip(stage.phase.candidates, stage.jobs, strict=True):
            for column, job in enumerate(jobs):
                found = self._place_of(job)
                if found is None:
                    continue
                jobs[column] = found
                candidate.trials[column].directory = found.subdir
                folder = found.subdir.rpartition("/")[0] if found is not job else SUPERSEDED
                told[folder or found.subdir] += 1
        if told:
            where = ", ".join(f"{count} in {folder}" for folder, count in told.items())
            lead = f"{stage.phase.name}: " if stage.phase.name else ""
            total = sum(map(len, stage.jobs))
            log.info("\n%s%d of %d computed before: %s", lead, told.total(), total, where)

    def _place_of(self, job: Job) -> Job | None:
        """The job where its result lies; itself if it was moved back, ``None`` to run it."""
        there = read_record(job.directory)
        if there is not None and there.is_of(job.fingerprint) and there.status == "completed":
            return None
        run = self.find(job.fingerprint)
        if run is None or not _still(run, job.fingerprint):
            return None
        subdir = run.directory.relative_to(self.directory).as_posix()
        home = subdir.removeprefix(f"{SUPERSEDED}/").rpartition("~")[0]
        if home == job.subdir and subdir not in self._used and not job.directory.exists():
            job.directory.parent.mkdir(parents=True, exist_ok=True)
            os.rename(run.directory, job.directory)
            run.directory = job.directory
            return job
        self._used.add(subdir)
        return replace(job, directory=run.directory, subdir=subdir)

    def set_aside(self, stage: Stage, composer: Composer) -> None:
        """Move away what an earlier call left of this phase with other settings or other data."""
        there = foreign_runs(stage, composer)
        moved = sorted({subdir for names in there.values() for subdir in names})
        for subdir in moved:
            number = 1
            while (target := self.directory / SUPERSEDED / f"{subdir}~{number}").exists():
                number += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.directory / subdir, target)
            for run in (run for runs in self._runs.values() for run in runs):
                if run.directory == self.directory / subdir:
                    run.directory = target
        if moved:
            log.info(
                "\n%s%d trials of an earlier call had other settings or other data; they are kept "
                "in %s",
                f"{stage.phase.name}: " if stage.phase.name else "",
                len(moved),
                self.directory / SUPERSEDED / stage.phase.name,
            )


def _still(run: RunRecord, identity: str) -> bool:
    """Whether the run is where it was when it was read."""
    now = read_record(run.directory)
    return now is not None and now.status == "completed" and now.is_of(identity)

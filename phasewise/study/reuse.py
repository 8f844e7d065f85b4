"""What a study's directory holds is not computed again, whichever phase it was computed for."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from phasewise.config.previous import data_difference, has_no_epochs
from phasewise.records.record import DATA_MARK, RunRecord, read_record
from phasewise.study.compose import Composer
from phasewise.study.folders import run_folders
from phasewise.study.journal import Journal
from phasewise.study.plan import Planner, Stage
from phasewise.study.results import has_readable_overrides
from phasewise.study.trial_job import TrialJob

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
        self._used: set[Path] = set()  # by phases of this study so far
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
        if record.status == "completed" and not known and has_readable_overrides(record):
            runs.append(record)

    def records(self) -> list[RunRecord]:
        """All completed runs."""
        return [run for runs in self._runs.values() for run in runs]

    def find(self, identity: str) -> RunRecord | None:
        """A run that computed what has this identity; its own data's before one of unknown data."""
        runs = [
            run
            for run in self._runs.get(identity.partition(DATA_MARK)[0], [])
            if run.is_of(identity)
        ]
        return next((run for run in runs if run.identity == identity), next(iter(runs), None))

    def reuse(self, stage: Stage) -> None:
        """Bring the runs that are there to the trials of a phase, and tell where they were.

        A run of an earlier phase stays, and the trial points to it; any other is moved to where
        the trial would have run, so that what a phase uses lies in its folder, or before it.
        """
        sources: Counter[str] = Counter()
        for candidate, jobs in zip(stage.phase.candidates, stage.jobs, strict=True):
            for column, job in enumerate(jobs):
                run = self._elsewhere(job)
                if run is not None:
                    there = run.directory.relative_to(self.directory).as_posix()
                    sources[there.rpartition("/")[0] or there] += 1
                    if run.directory not in self._used:
                        self._bring(run, job)
                    subdir = run.directory.relative_to(self.directory).as_posix()
                    jobs[column] = replace(job, directory=run.directory, subdir=subdir)
                    candidate.trials[column].directory = subdir
                self._used.add(jobs[column].directory)
        if sources and stage.progress is None:  # which says so much of each batch itself
            where = ", ".join(f"{count} in {folder}" for folder, count in sources.items())
            lead = f"{stage.phase.name}: " if stage.phase.name else ""
            total = sum(map(len, stage.jobs))
            log.info("\n%s%d of %d computed before: %s", lead, sources.total(), total, where)

    def _elsewhere(self, job: TrialJob) -> RunRecord | None:
        """A run that has computed what a trial is to compute, if the trial's own has not."""
        there = read_record(job.directory)
        if there is not None and there.is_of(job.fingerprint) and there.status == "completed":
            return None
        run = self.find(job.fingerprint)
        return run if run is not None and _still(run, job.fingerprint) else None

    def _bring(self, run: RunRecord, job: TrialJob) -> None:
        """Move a run to where a trial would have run; what lies there has not come as far."""
        if job.directory.exists():
            self._move_away(job.subdir)
        job.directory.parent.mkdir(parents=True, exist_ok=True)
        os.rename(run.directory, job.directory)
        run.directory = job.directory

    def set_aside(self, stage: Stage, composer: Composer) -> None:
        """Move away what an earlier call left of this phase with other settings or other data."""
        there = foreign_runs(stage, composer)
        moved = sorted({subdir for names in there.values() for subdir in names})
        for subdir in moved:
            self._move_away(subdir)
        if moved:
            log.info(
                "\n%s%d trials of an earlier call had other settings or other data; they are kept "
                "in %s",
                f"{stage.phase.name}: " if stage.phase.name else "",
                len(moved),
                self.directory / SUPERSEDED / stage.phase.name,
            )

    def _move_away(self, subdir: str) -> None:
        number = 1
        while (target := self.directory / SUPERSEDED / f"{subdir}~{number}").exists():
            number += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.directory / subdir, target)
        for run in (run for runs in self._runs.values() for run in runs):
            if run.directory == self.directory / subdir:
                run.directory = target


def foreign_runs(stage: Stage, composer: Composer) -> dict[str, list[str]]:
    """Directories of its trials that hold a run of other settings or data, by what they hold."""
    found: dict[str, list[str]] = {}
    for job in (job for jobs in stage.jobs for job in jobs):
        record = read_record(job.directory)
        if record is None or record.is_of(job.fingerprint) or has_no_epochs(record):
            continue
        if record.fingerprint == job.fingerprint.partition(DATA_MARK)[0]:
            what = data_difference(
                record, composer.config_of(job.words), composer.data_of(job.words)
            )
        else:
            there = composer.application.difference(record, composer.config_of(job.words))
            what = f"holds a run of other settings ({there})"
        found.setdefault(what, []).append(job.subdir)
    return found


def other_settings(
    stage: Stage, planner: Planner, base: Sequence[str], old: Journal | None
) -> dict[str, list[str]]:
    """Runs where the first phase of a study is to run that somebody's other settings have left.

    Those that only started from other winners, because the phase had others before it in an earlier
    call, are none: what their own words compute is the same now, and these are the study's base and
    what its phases tried.

    Args:
        stage: the first phase.
        planner: knows what words compute.
        base: overrides of the study's starting configuration.
        old: the journal of the earlier call.

    Returns:
        As `foreign_runs`.
    """
    found = foreign_runs(stage, planner.composer)
    if old is None or not found or not stage.phase.name:  # a sweep has no phases before it
        return found
    phases = [phase for phase in old.phases if phase.kind != "test"]
    tried = {word for it in phases for one in it.candidates for word in one.overrides}
    known = {*base, *tried}

    def has_moved(subdir: str) -> bool:
        record = read_record(planner.directory / subdir)
        if record is None or not set(base).issubset(record.overrides):
            return False
        seed_key = planner.composer.application.seed_key
        own = [word for word in record.overrides if word.partition("=")[0] != seed_key]
        identity = planner.composer.try_fingerprint(tuple(record.overrides), subdir, {})
        return known.issuperset(own) and identity is not None and record.is_of(identity)

    left = {what: [it for it in names if not has_moved(it)] for what, names in found.items()}
    return {what: names for what, names in left.items() if names}


def _still(run: RunRecord, identity: str) -> bool:
    """Whether the run is where it was when it was read."""
    now = read_record(run.directory)
    return now is not None and now.status == "completed" and now.is_of(identity)

"""Phases that do not build on each other run in one batch, where a launcher runs several trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phasewise.records.record import read_record
from phasewise.study.plan import Stage
from phasewise.study.trial_job import TrialJob


def share_trials(stages: Sequence[Stage]) -> None:
    """Have a trial that several of these phases need run once, in the folder of the first.

    It follows from the plan alone, so that a study that was stopped shares the same again. What a
    phase has already computed for itself stays.
    """
    owners: dict[str, TrialJob] = {}
    for stage in stages:
        for candidate, jobs in zip(stage.phase.candidates, stage.jobs, strict=True):
            for column, job in enumerate(jobs):
                owner = owners.setdefault(job.fingerprint, job)
                if owner.subdir == job.subdir or _is_there(job):
                    continue
                jobs[column] = replace(job, directory=owner.directory, subdir=owner.subdir)
                candidate.trials[column].directory = owner.subdir


def _is_there(job: TrialJob) -> bool:
    record = read_record(job.directory)
    return record is not None and record.status == "completed" and record.is_of(job.fingerprint)


def batches(stages: Sequence[Stage]) -> list[list[Stage]]:
    """The phases whose trials can be launched together: those that are judged alike, and neither
    halve nor search, which take launches of their own."""
    found: list[list[Stage]] = []
    for stage in stages:
        together = [group for group in found if _alike(group[0], stage)]
        if together:
            together[0].append(stage)
        else:
            found.append([stage])
    return found


def _alike(one: Stage, other: Stage) -> bool:
    phases = one.phase, other.phase
    alone = any(phase.halving is not None or phase.search is not None for phase in phases)
    first, second = (
        (it.objective, it.objectives, it.choose, it.require) for it in (one.phase, other.phase)
    )
    return not alone and first == second

"""Halving in a phase: its trials run rung by rung, and what was saved is written down.

Who goes on, `phasewise.study.rungs` decides. Where rungs are epochs, a trial keeps the
learning-rate schedule of its full length and is continued from its checkpoint. Where they are the
values of a key, each rung is a run of its own, so that any application can do it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from phasewise.records.checkpoints import has_weights, remove_weights
from phasewise.records.history import read_history
from phasewise.records.record import RunRecord, read_record
from phasewise.study.halved import EPOCHS, Halved
from phasewise.study.halving_plan import cost, race_of
from phasewise.study.objectives import scalar_at, scalar_of
from phasewise.study.plan import Stage
from phasewise.study.rungs import Move
from phasewise.study.trial_job import TrialJob
from phasewise.study.weights import WHERE, Policy

log = logging.getLogger(__name__)

Launch = Callable[[Sequence[TrialJob]], None]


def halve(stage: Stage, launch: Launch) -> None:
    """Run the trials of a stage rung by rung; the incumbent is never dropped.

    Who goes on depends on the values at the rungs alone, so that a study that was killed decides
    the same again.

    Args:
        stage: its phase has ``halving``.
        launch: runs trials as far as their ``pause`` says, those that have not come so far.
    """
    phase, settings = stage.phase, stage.phase.halving
    assert settings is not None
    race = race_of(phase)
    moves = race.wave()
    while moves:
        launch([job for move in moves for job in jobs_at(stage, move)])
        for move in moves:
            race.tell(move.row, move.rung, _value(stage, move))
        done, moves = moves, race.wave()
        _tell_wave(settings, done, moves)
    for row, candidate in enumerate(phase.candidates):
        rung = race.reached(row)
        stopped = 0 <= rung < len(settings.rungs) - 1
        candidate.epochs = settings.rungs[rung] if stopped else None
    full, spent = (len(phase.seeds) * it for it in cost(phase, race))
    settings.full += full  # a search halves batch after batch
    settings.spent += spent
    saved = settings.full - settings.spent
    phase.epochs_saved = round(saved) if settings.unit == EPOCHS else 0


def jobs_at(stage: Stage, move: Move) -> list[TrialJob]:
    """The runs of a candidate at a rung, one per seed."""
    settings = stage.phase.halving
    assert settings is not None
    jobs = stage.jobs[move.row]
    if move.rung == len(settings.rungs) - 1:
        return jobs
    if settings.unit != EPOCHS:
        return stage.rung_jobs[move.row][move.rung]
    return [replace(job, pause=int(settings.rungs[move.rung])) for job in jobs]


def value_reached(stage: Stage, row: int) -> tuple[float, int] | None:
    """The objective of a candidate where halving has stopped it, and that rung; ``None`` of one
    that it has not."""
    settings, epochs = stage.phase.halving, stage.phase.candidates[row].epochs
    if settings is None or epochs is None:
        return None
    rung = settings.rungs.index(epochs)
    return _value(stage, Move(row, rung)), rung


def _value(stage: Stage, move: Move) -> float:
    """The objective of a candidate at a rung, the mean over its seeds; NaN where one has none."""
    settings = stage.phase.halving
    assert settings is not None
    jobs = jobs_at(stage, move)
    if settings.unit == EPOCHS:
        rows = [_rows_of(job) for job in jobs]
        return scalar_at(stage.phase, rows, int(settings.rungs[move.rung]))
    records = [read_record(job.directory) for job in jobs]
    values = [
        scalar_of(stage.phase, record)
        if record is not None and record.is_of(job.fingerprint)
        else math.nan
        for record, job in zip(records, jobs, strict=True)
    ]
    return fmean(values)


def _rows_of(job: TrialJob) -> list[dict[str, float]]:
    """Its history; none of a run that broke off before the rung, which cannot go on."""
    rows, record = read_history(job.directory), read_record(job.directory)
    came = max((row["epoch"] for row in rows), default=0)
    broke_off = record is not None and record.is_final and record.status != "completed"
    return [] if broke_off and (job.pause is None or came < job.pause) else rows


def _tell_wave(settings: Halved, done: Sequence[Move], moves: Sequence[Move]) -> None:
    """What follows from a wave, for people."""
    last = len(settings.rungs) - 1
    for rung in range(last):
        before = sum(move.rung == rung for move in done)
        on = sum(move.rung == rung + 1 for move in moves)
        if settings.asynchronous and on:
            log.info("\n%d of those that came to %s go on", on, settings.at(rung))
        elif before and not settings.asynchronous:
            log.info("\nafter %s %d of %d go on", settings.at(rung), on, before)


def ran_jobs(stage: Stage) -> list[TrialJob]:
    """All runs of a stage, those at the rungs that each candidate came to included."""
    if not stage.rung_jobs:
        return [job for jobs in stage.jobs for job in jobs]
    rows = range(len(stage.jobs))
    return [job for row in rows for move in _moves(stage, row) for job in jobs_at(stage, move)]


def last_records(
    stage: Stage, row: int, outcome: Callable[[TrialJob], RunRecord]
) -> list[tuple[TrialJob, RunRecord]]:
    """The run of each seed that came furthest; of one that halving stopped it is ``paused``."""
    jobs = stage.jobs[row]
    if not jobs or not stage.rung_jobs:
        return [(job, outcome(job)) for job in jobs]
    last = [(job, outcome(job)) for job in jobs_at(stage, _moves(stage, row)[-1])]
    if stage.phase.candidates[row].epochs is None:
        return last
    return [
        (job, replace(record, status="paused") if record.status == "completed" else record)
        for job, record in last
    ]


def _moves(stage: Stage, row: int) -> list[Move]:
    """The rungs that a candidate ran at, where each is a run of its own."""
    candidate, settings = stage.phase.candidates[row], stage.phase.halving
    if settings is None or not stage.jobs[row]:
        return []
    end = len(settings.rungs) - 1
    last = end if candidate.epochs is None else settings.rungs.index(candidate.epochs)
    return [Move(row, rung) for rung in range(candidate.bracket, last + 1)]


def remove_rung_weights(stage: Stage, policy: Policy) -> None:
    """Remove the weights of runs below the last rung, which nothing goes on from."""
    if policy in ("winners", "none"):
        for job in (job for rungs in stage.rung_jobs for jobs in rungs for job in jobs):
            if has_weights(job.directory):
                remove_weights(job.directory, f"removed: a run below the last rung; {WHERE}")

"""Successive halving: all trials for a few epochs, the better part of them on and on.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
AISTATS 2016. A trial keeps the learning-rate schedule of its full length and is continued from its
checkpoint.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from phasewise.records.history import read_history
from phasewise.study.plan import Stage
from phasewise.study.selection import survivors, value_at
from phasewise.study.trial_job import TrialJob

log = logging.getLogger(__name__)

Launch = Callable[[Sequence[TrialJob], int | None], None]


def halve(stage: Stage, launch: Launch) -> None:
    """Run the trials of a stage rung by rung; the incumbent is never dropped.

    Who goes on depends on the epochs up to the rung alone, so that a study that was killed decides
    the same again.

    Args:
        stage: ``spec.halving`` has the epochs of the first rung and the factor between rungs.
        launch: runs trials up to an epoch, those that have not come so far.
    """
    settings, phase = stage.spec.halving, stage.phase
    assert settings is not None
    assert stage.epochs is not None
    phase.epochs_saved = 0
    alive = [row for row, jobs in enumerate(stage.jobs) if jobs]
    for rung in rungs(settings.epochs, settings.factor, stage.epochs):
        pause = rung if rung < stage.epochs else None
        launch([job for row in alive for job in stage.jobs[row]], pause)
        if rung == stage.epochs:
            return
        histories = [[read_history(job.directory) for job in stage.jobs[row]] for row in alive]
        values = [value_at(rows, rung, phase.objective) for rows in histories]
        count = math.ceil(len(alive) / settings.factor)
        kept = {alive[place] for place in survivors(values, count, phase.objective["mode"])}
        for row in alive:
            if row not in kept and row != phase.incumbent:
                phase.candidates[row].epochs = rung
                phase.epochs_saved += (stage.epochs - rung) * len(stage.jobs[row])
        alive = [row for row in alive if phase.candidates[row].epochs is None]
        log.info("\nafter %d epochs %d of %d go on", rung, len(alive), len(values))


def rungs(first: int, factor: float, epochs: int) -> list[int]:
    """After how many epochs is compared: 2, 6, 18 of 18 by a factor of 3; the last is the end."""
    found = []
    rung = float(first)
    while round(rung) < epochs:
        found.append(round(rung))
        rung *= factor
    return [*found, epochs]

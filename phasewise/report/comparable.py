"""Which losses of a phase can be compared, and what steadiness is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phasewise.analysis.statistics.losses import LOSSES, incomparable
from phasewise.report.view import CandidateView, PhaseView, StudyView


@dataclass(frozen=True)
class Steadiness:
    """What tells how steadily a configuration trains.

    Attributes:
        column: of `phasewise.analysis.statistics.frame.trial_frame`.
        title: of the column.
        note: why it is not the validation loss, as a sentence; empty where it is.
    """

    column: str
    title: str
    note: str = ""


def incomparable_losses(phase: PhaseView, losses: Sequence[str] = LOSSES) -> str:
    """See `phasewise.analysis.statistics.losses.incomparable`."""
    records = [record for one in phase.candidates for record in one.records]
    return incomparable(phase.keys, records, losses)


def differing_losses(study: StudyView, candidates: Sequence[CandidateView]) -> str:
    """The same of configurations of several phases, by the keys that the study varies."""
    keys = [
        key
        for key in study.swept
        if len({one.phase.result.setting(one.result, key) for one in candidates}) > 1
    ]
    return incomparable(keys, [record for one in candidates for record in one.records])


def steadiness(phase: PhaseView) -> Steadiness:
    """The deviation of the validation loss over the epochs, or that of the objective where the
    losses of the phase's configurations are no numbers of one kind."""
    reason = incomparable_losses(phase, ("val/loss",))
    if not reason:
        return Steadiness("stability", "std of val/loss")
    note = f"Steadiness is that of {phase.metric}, for losses are not compared: {reason}."
    return Steadiness("objective_std", f"std of {phase.metric}", note)

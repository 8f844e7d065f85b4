"""A winner that was best at its last epoch: twice as many, for it and its runner-up."""

from __future__ import annotations

import math
from collections.abc import Iterator

from phasewise.analysis.audit.training import ended_best
from phasewise.analysis.proposals.known import Known, words_of
from phasewise.analysis.proposals.proposal import Cell, Proposal
from phasewise.analysis.proposals.repeats import second_best
from phasewise.analysis.statistics.frame import EPOCHS_KEY


def longer(known: Known) -> Iterator[Proposal]:
    """One phase at most."""
    epochs = known.setting(EPOCHS_KEY)
    if not isinstance(epochs, int) or epochs < 1:
        return
    scored = [trial for trial in known.final.trials if math.isfinite(trial.value)]
    late = [t for t in scored if t.record is not None and ended_best(t.record)]
    if 2 * len(late) <= len(scored):
        return
    word = f"{EPOCHS_KEY}={2 * epochs}"
    cells: list[Cell] = [(word,)]
    rival = second_best(known.phase, known.index)
    words = None if rival is None else words_of(known.phase, rival, known.index)
    if words is not None and not any(it.startswith(f"{EPOCHS_KEY}=") for it in words):
        cells.append((word, *words))
    beside = " and for its runner-up, which may gain more" if len(cells) > 1 else ""
    yield Proposal(
        "longer",
        "longer",
        tuple(cells),
        f"the winner was best at the last of {epochs} epochs in {len(late)} of {len(scored)} "
        f"runs: twice as many for it{beside}",
    )

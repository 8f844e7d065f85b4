"""Where losses of runs can be compared with each other, and where they are different quantities."""

from __future__ import annotations

from collections.abc import Iterable

from phasewise.records.record import RunRecord
from phasewise.study.measures import is_of_losses

GROUP = "loss"
"""The config group that decides what a loss is."""

BATCH_SIZE = "data.batch_size"
LOSSES = ("train/loss", "val/loss")


def incomparable(
    keys: Iterable[str], records: Iterable[RunRecord], losses: Iterable[str] = LOSSES
) -> str:
    """Why losses of runs that differ in some keys are no numbers of one kind; empty if they are.

    Keys of the group ``loss`` choose another loss or weigh its terms differently: a smooth L1 of
    .01 is not better than a GIoU loss of .6. And a task says which losses depend on how many images
    a batch holds (`phasewise.records.notes.Notes.batch_losses`).

    Args:
        keys: that differ.
        records: of the runs.
        losses: that are to be compared.
    """
    differ = list(keys)
    kinds = [key for key in differ if key.partition(".")[0] == GROUP]
    if kinds:
        return f"{' and '.join(kinds)} differ{'s' if len(kinds) == 1 else ''}: not the same loss"
    if BATCH_SIZE in differ:
        named = {name for record in records for name in record.notes.batch_losses}
        found = [name for name in losses if name in named]
        if found:
            depends = "depends" if len(found) == 1 else "depend"
            return f"{' and '.join(found)} of the same weights {depends} on {BATCH_SIZE}"
    return ""


def losses_of(measure: str) -> tuple[str, ...]:
    """The losses that a measure is computed from."""
    if measure == "stability":
        return ("val/loss",)
    if measure == "gap":
        return LOSSES
    return (measure,) if is_of_losses(measure) else ()

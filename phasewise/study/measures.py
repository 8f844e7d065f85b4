"""The numbers that a run is described by, besides its metrics; what hypotheses may be about."""

from __future__ import annotations

OBJECTIVE = "objective"
"""How a study's file names what its phases are judged by."""

MEASURES: dict[str, str] = {
    "value": "the objective at its best epoch",
    "last": "the objective at the last epoch",
    "drop": "how much worse the objective is at the last epoch than at the best one",
    "drop_percent": "the drop in percent of the best",
    "epochs_to_best": "the best epoch, counted from 1",
    "seconds_to_best": "epochs_to_best times seconds_per_epoch",
    "stability": "standard deviation of val/loss over the epochs",
    "objective_std": "standard deviation of the objective over the epochs",
    "gap": "val/loss less train/loss at the best epoch",
    "per_hour": "the objective by the hours that the run took on its device",
    "seconds": "that the whole run took",
    "seconds_per_epoch": "median",
    "images_per_second": "in training",
    "peak_memory_mb": "of the device",
    "parameters": "of the network",
    "epochs": "done",
}
"""Columns of `phasewise.analysis.statistics.frame.trial_frame`, with their meaning."""

LOWER_IS_BETTER = frozenset(
    {
        *("drop", "drop_percent", "epochs_to_best", "seconds_to_best"),
        *("stability", "objective_std", "gap"),
        *("seconds", "seconds_per_epoch", "peak_memory_mb", "parameters", "epochs"),
    }
)
"""Of metrics those whose name has ``loss`` or ``error`` in it."""

OF_LOSSES = frozenset({"stability", "gap"})
"""Computed from losses, beside the metrics whose name has ``loss`` in it."""


def is_of_losses(measure: str) -> bool:
    """Whether it means nothing across losses of different kinds."""
    return measure in OF_LOSSES or "loss" in measure


def is_lower_better(measure: str) -> bool:
    """Whether less of it is better; the objective has a mode of its own."""
    return measure in LOWER_IS_BETTER or "loss" in measure or "error" in measure

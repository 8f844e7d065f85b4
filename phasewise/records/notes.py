"""What a task adds to the reports that show its runs, kept in each run's record under ``notes``.

Report and audit know no task. What concerns one task only, its LightningModule says here
(`phasewise.training.module.TaskModule.report_notes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A metric that makes no sense below a value; the audit lists the runs where it lies there.

    Attributes:
        metric: its name, e.g. ``train/positive_share``.
        least: the smallest value that is all right at a run's best epoch.
        meaning: what a smaller one means, as the end of "in 3 trials ...".
        advice: what to do about it.
    """

    metric: str
    least: float
    meaning: str
    advice: str


@dataclass(frozen=True)
class Diagram:
    """Curves that belong to a configuration, as those of its loss; the report draws them over the
    ones of the other configurations of a phase.

    Attributes:
        name: of the figure; diagrams of one name are drawn over each other.
        label: of this configuration's curves; the same label means the same curves.
        caption: what is drawn, the same for all configurations.
        curves: numbers by their name. The first ones are those that the others are drawn over, in a
            panel each.
        log: the names of those whose axis is logarithmic.
    """

    name: str
    label: str
    caption: str
    curves: Mapping[str, list[float]]
    log: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({len(values) for values in self.curves.values()}) != 1 or len(self.curves) < 2:
            raise ValueError(f"curves of {self.name}: two or more of equal length are needed")


@dataclass(frozen=True)
class Notes:
    """All that a run's task tells the report.

    Attributes:
        limits: what the audit checks.
        diagrams: what the report draws.
        batch_losses: names of losses (``val/loss``) that, of the same weights, are another number
            when the batches have another size, as a Dice of a whole batch is: of runs that differ
            in ``data.batch_size`` they are shown, but not compared.
    """

    limits: tuple[Limit, ...] = ()
    diagrams: tuple[Diagram, ...] = ()
    batch_losses: tuple[str, ...] = ()

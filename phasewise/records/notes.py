"""What a task adds to the reports that show its runs, kept in each run's record under ``notes``.

Report and audit know no task. What concerns one task only, its LightningModule says here
(`phasewise.training.contract.TaskContract.report_notes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

ROUNDING = 1e-3
"""By how much shares that are written with four digits may miss their sum."""


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
class Shares:
    """Wholes that are divided into the same parts, e.g. pixels by where they lie; the report draws
    them as bars below each other.

    Attributes:
        name: of the figure.
        title: what a share is of, with its unit: ``share of the pixels``.
        caption: what is drawn.
        bars: the shares of the parts, 0..1 and 1 together, by the bar's name and the part's.
    """

    name: str
    title: str
    caption: str
    bars: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        parts = {tuple(bar) for bar in self.bars.values()}
        sums = [sum(bar.values()) for bar in self.bars.values()]
        least = min((value for bar in self.bars.values() for value in bar.values()), default=-1.0)
        if len(parts) != 1 or least < 0 or any(abs(total - 1) > ROUNDING for total in sums):
            raise ValueError(f"bars of {self.name}: shares of the same parts that add up to 1")


@dataclass(frozen=True)
class Notes:
    """All that a run's task tells the report.

    Attributes:
        limits: of metrics.
        diagrams: drawn where configurations that were compared have different ones.
        references: diagrams to read the others by; those of the final configuration are drawn, all
            of one name over each other.
        shares: those of the final configuration are drawn.
        batch_losses: names of losses (``val/loss``) that, of the same weights, are another number
            when the batches have another size, as a Dice of a whole batch is: of runs that differ
            in ``data.batch_size`` they are shown, but not compared.
    """

    limits: tuple[Limit, ...] = ()
    diagrams: tuple[Diagram, ...] = ()
    references: tuple[Diagram, ...] = ()
    shares: tuple[Shares, ...] = ()
    batch_losses: tuple[str, ...] = ()

    def with_shares(self, more: Sequence[Shares]) -> Notes:
        """The same with ``more``, in place of those of the same names."""
        return replace(self, shares=(*{one.name: one for one in (*self.shares, *more)}.values(),))

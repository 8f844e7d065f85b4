"""Learning curves of all configurations of a phase over each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from phasewise.records.history import Row
from phasewise.report.figures.labels import label_ends
from phasewise.report.figures.limits import Limits, limit_axis, robust_limits
from phasewise.report.figures.style import FAINT, PAPER, legend_below, panel_grid

MOST = 40
"""Curves beyond which only the best, the worst and the envelope of all are drawn."""

ROLES = {"best": "*", "worst": "X"}
SIZES = {"best": 11, "worst": 7}
BAND = (10, 90)
"""Percentiles of the envelope."""

FEW = 8
"""Curves up to which all have bands and marks of cuts of the learning rate; else the best and the
worst."""

ORDER = ("", "worst", "best")
"""Of roles, from the back to the front: what is best is never hidden."""

CUT = 0.9
"""A learning rate that was constant and falls below this share of itself was cut."""

SPLITS = {"train": "--", "val": "-"}
HOLLOW = {"markerfacecolor": "none", "ms": 5}
"""Dots of training, where they stand for lines of one epoch."""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A configuration.

    Attributes:
        runs: the epochs of each of its runs, one per seed.
        colour: of its lines.
        name: written at the end of its line, where it fits.
        marker: along its line; none: "".
        role: whether it is the best or the worst.
        starred: the epoch that is marked then.
    """

    runs: Sequence[Sequence[Row]]
    colour: str
    name: str = ""
    marker: str = ""
    role: Literal["", "best", "worst"] = ""
    starred: Row | None = None


@dataclass(frozen=True)
class Panel:
    """One quantity of one or both splits, e.g. ``loss`` with ``train/loss`` and ``val/loss``."""

    name: str
    train: str | None
    val: str | None
    labelled: bool = False

    @property
    def sides(self) -> dict[str, str]:
        """The quantities by split."""
        both = {"train": self.train, "val": self.val}
        return {split: name for split, name in both.items() if name is not None}

    @property
    def title(self) -> str:
        """Of the vertical axis: without a split where there are two."""
        return self.name if len(self.sides) == 2 else next(iter(self.sides.values()))

    @property
    def is_loss(self) -> bool:
        """Whether the axis may be logarithmic."""
        return self.name.split("/")[0].endswith("loss")


def draw_curves(
    all_of: Sequence[Curve], panels: Sequence[Panel], legend: Sequence[Line2D]
) -> Figure:
    """A panel per quantity over the epochs, training and validation in the same one.

    Runs of several seeds are a line, their mean, in a band from the least to the greatest; where
    some have ended, the others are thin lines. The best and the worst configuration are thick, with
    their best epoch marked; ticks on the lines mark where a constant learning rate was cut. With
    more than `MOST` configurations, only these two and an envelope are drawn. One far off the
    others does not stretch the axis, see `phasewise.report.figures.limits`; the panel says so.
    """
    figure, axes = panel_grid(len(panels), height=2.4)
    crowded = len(all_of) > MOST
    shown = [one for one in all_of if one.role or not crowded]
    few = len(shown) <= FEW
    cut = False
    for ax, panel in zip(axes, panels, strict=True):
        if crowded:
            _envelope(ax, all_of, panel)
        for curve in sorted(shown, key=lambda one: ORDER.index(one.role)):
            for split, quantity in panel.sides.items():
                thin = split == "train" and panel.val is not None
                banded = few or bool(curve.role)
                _draw(ax, curve, quantity, split, thin=thin, banded=banded)
            if few or curve.role:
                cut |= _mark_cuts(ax, curve, panel)
        ax.set(ylabel=panel.title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        limit_axis(ax, _limits(all_of, panel))
        if panel.labelled and not crowded:
            label_ends(ax, list(_ends(shown, panel)))
    roles = {curve.role for curve in all_of}
    both = any(len(panel.sides) == 2 for panel in panels)
    several = any(len(curve.runs) > 1 for curve in shown)
    alone = {len({row["epoch"] for row in rows}) for one in shown for rows in one.runs} <= {0, 1}
    marks = _marks(roles, several=several, crowded=crowded, both=both, cut=cut, alone=alone)
    if several:
        marks.append(_entry("band: least to greatest over seeds", lw=6, alpha=0.25))
    legend_below(figure, [*(() if crowded else legend), *marks])
    return figure


def _marks(
    roles: Collection[str], *, several: bool, crowded: bool, both: bool, cut: bool, alone: bool
) -> list[Line2D]:
    """What lines, dots and markers stand for; ``alone`` where all curves are of one epoch."""
    epoch = "best epoch of its best run" if several else "at its best epoch"
    found = [
        _entry(f"{role}, {epoch}", lw=2.4, marker=marker, ms=SIZES[role], mec=PAPER, mew=0.8)
        for role, marker in ROLES.items()
        if role in roles
    ]
    if both:
        names = {"val": "validation", "train": "training"}
        dots = {"val": {"marker": "o", "ms": 3.5}, "train": {"marker": "o", **HOLLOW}}
        styles = {s: {"ls": "", **dots[s]} if alone else {"ls": SPLITS[s]} for s in names}
        found += [_entry(name, **styles[split]) for split, name in names.items()]
    if crowded:
        found.append(_entry(f"median and {BAND[0]}-{BAND[1]} % of all", lw=1))
    if cut:
        found.append(_entry("learning rate cut", ls="", marker="|", ms=9, mew=1.2))
    return found


def _entry(label: str, **style: Any) -> Line2D:
    return Line2D([], [], **{"color": FAINT, "lw": 1.2, **style}, label=label)


def points_of(rows: Sequence[Row], quantity: str) -> Points:
    """Epochs with their values, where they are finite."""
    finite = (row for row in rows if math.isfinite(row.get(quantity, math.nan)))
    return [(row["epoch"], row[quantity]) for row in finite]


def over_seeds(curve: Curve, quantity: str) -> tuple[np.ndarray, list[Points]]:
    """What is drawn of a configuration.

    Returns:
        Rows of epoch, mean, least and greatest value (n, 4), of the epochs that all its runs have;
        and what each run has beyond.
    """
    runs = [dict(found) for rows in curve.runs if (found := points_of(rows, quantity))]
    shared = sorted(set.intersection(*map(set, runs))) if runs else []
    if not shared:
        return np.empty((0, 4)), [sorted(run.items()) for run in runs]
    values = np.array([[run[epoch] for run in runs] for epoch in shared])
    table = np.column_stack([shared, values.mean(1), values.min(1), values.max(1)])
    last = shared[-1]
    tails = [[point for point in sorted(run.items()) if point[0] >= last] for run in runs]
    return table, [tail for tail in tails if len(tail) > 1]


def _draw(ax: Axes, curve: Curve, quantity: str, split: str, *, thin: bool, banded: bool) -> None:
    table, tails = over_seeds(curve, quantity)
    style: dict[str, Any] = {"color": curve.colour, "linestyle": SPLITS[split]}
    for tail in tails:
        ax.plot(*zip(*tail, strict=True), **style, lw=0.6, alpha=0.4)
    if not len(table):
        return
    epochs, mean, low, high = table.T
    width = (1.3 if thin else 2.4) if curve.role else (0.7 if thin else 1.1)
    alpha = 1.0 if curve.role else 0.8
    order: dict[str, Any] = {"zorder": 4} if curve.role else {}
    alone = len(epochs) == 1  # a line of one point cannot be seen
    along = curve.marker or ("o" if alone else "") if alone or not thin else ""
    every = max(1, len(epochs) // 6)
    dots: dict[str, Any] = {"marker": along, "markevery": every, "ms": 3.5}
    dots |= HOLLOW if alone and split == "train" else {}
    ax.plot(epochs, mean, **style, **order, **dots, lw=width, alpha=alpha)
    if banded and len(curve.runs) > 1 and not thin:
        ax.fill_between(epochs, low, high, color=curve.colour, alpha=0.13, lw=0)
    if curve.role and split == "val" and curve.starred:
        for x, y in points_of([curve.starred], quantity):
            marker = ROLES[curve.role]
            edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 0.8}
            size = SIZES[curve.role]
            ax.plot(x, y, marker, color=curve.colour, ms=size, zorder=5, **edge)


def rate_cuts(rows: Sequence[Row]) -> list[float]:
    """Epochs in whose rows the learning rate is first lower than a constant one before.

    A rate that falls in each epoch (cosine) is not cut.
    """
    rates = [(row["epoch"], row["lr"]) for row in rows if row.get("lr", 0) > 0]
    found = []
    for place in range(1, len(rates)):
        (_, before), (epoch, now) = rates[place - 1], rates[place]
        constant = place == 1 or math.isclose(rates[place - 2][1], before, rel_tol=1e-6)
        if constant and now < CUT * before and not _keeps_falling(rates[place:]):
            found.append(epoch)
    return found


def _keeps_falling(rates: Sequence[tuple[float, float]]) -> bool:
    return len(rates) > 1 and rates[1][1] < rates[0][1] * (1 - 1e-6)


def _mark_cuts(ax: Axes, curve: Curve, panel: Panel) -> bool:
    """Whether there were any."""
    quantity = panel.val or panel.train
    assert quantity is not None
    found = False
    for rows in curve.runs:
        epochs = {*rate_cuts(rows)}
        points = [point for point in points_of(rows, quantity) if point[0] in epochs]
        if points:
            style: dict[str, Any] = {"ms": 9, "mew": 1.2, "zorder": 3}
            ax.plot(*zip(*points, strict=True), "|", color=curve.colour, **style)
            found = True
    return found


def _ends(curves: Sequence[Curve], panel: Panel) -> Iterator[tuple[float, float, str, str]]:
    """Of the lines of each name, that of the one nearest to their mean."""
    quantity = panel.val or panel.train
    assert quantity is not None
    ends: dict[tuple[str, str], Points] = {}
    for curve in curves:
        table, _ = over_seeds(curve, quantity)
        if curve.name and len(table):
            ends.setdefault((curve.name, curve.colour), []).append((table[-1, 0], table[-1, 1]))
    for (name, colour), points in ends.items():
        middle = np.mean([y for _, y in points])
        x, y = min(points, key=lambda point: abs(point[1] - middle))
        yield float(x), float(y), name, colour


def _limits(curves: Sequence[Curve], panel: Panel) -> Limits | None:
    groups = [_drawn(curve, panel) for curve in curves]
    kept = [place for place, curve in enumerate(curves) if curve.role == "best"]
    loss = panel.is_loss
    return robust_limits(groups, may_be_log=loss, whole=not loss, kept=kept, only_above=loss)


def _drawn(curve: Curve, panel: Panel) -> list[float]:
    """The values between which its lines and bands lie."""
    found: list[float] = []
    for split, quantity in panel.sides.items():
        table, tails = over_seeds(curve, quantity)
        thin = split == "train" and panel.val is not None
        found += table[:, 1 if thin else slice(1, None)].ravel().tolist()
        found += [value for tail in tails for _, value in tail]
    return found


def _envelope(ax: Axes, all_of: Sequence[Curve], panel: Panel) -> None:
    for split, quantity in panel.sides.items():
        values: dict[float, list[float]] = {}
        for rows in (rows for curve in all_of for rows in curve.runs):
            for epoch, value in points_of(rows, quantity):
                values.setdefault(epoch, []).append(value)
        epochs = sorted(values)
        if not epochs:
            continue
        low, middle, high = np.array(
            [np.percentile(values[epoch], (BAND[0], 50, BAND[1])) for epoch in epochs]
        ).T
        ax.plot(epochs, middle, color=FAINT, lw=1, ls=SPLITS[split])
        if split == "val" or panel.val is None:
            ax.fill_between(epochs, low, high, color=FAINT, alpha=0.25, lw=0)

"""Learning curves of all trials of a phase over each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from phasewise.records.history import Row
from phasewise.report.figures.style import FAINT, legend_below, panel_grid

MOST = 40
"""Curves beyond which only the best, the worst and the envelope of all are drawn."""

ROLES = {"best": "*", "worst": "X"}
BAND = (10, 90)
"""Percentiles of the envelope."""


@dataclass(frozen=True)
class Curve:
    """One run: its epochs, how it is drawn, and where its best epoch is."""

    rows: Sequence[Row]
    colour: str
    line: str = "-"
    role: Literal["", "best", "worst"] = ""
    epoch: int | None = None


def draw_curves(
    all_of: Sequence[Curve], quantities: Sequence[str], legend: Sequence[Line2D]
) -> Figure:
    """A panel per quantity, e.g. ``train/loss``, over the epochs.

    The best and the worst run are thick, with their best epoch marked. With more than `MOST` runs,
    only these two and an envelope are drawn.
    """
    figure, axes = panel_grid(len(quantities), height=2.4)
    crowded = len(all_of) > MOST
    for ax, quantity in zip(axes, quantities, strict=True):
        if crowded:
            _envelope(ax, all_of, quantity)
        for curve in sorted(all_of, key=lambda one: one.role):  # the marked ones on top
            if curve.role or not crowded:
                _draw(ax, curve, quantity)
        ax.set(ylabel=quantity, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    roles = {curve.role for curve in all_of}
    legend_below(figure, [*(() if crowded else legend), *_marks(roles, crowded)])
    return figure


def _marks(roles: Collection[str], crowded: bool) -> list[Line2D]:
    style: dict[str, Any] = {"color": FAINT, "lw": 2.4}
    found = [
        Line2D([], [], **style, marker=marker, ms=7, label=f"{role}, at its best epoch")
        for role, marker in ROLES.items()
        if role in roles
    ]
    if crowded:
        label = f"median and {BAND[0]}-{BAND[1]} % of all"
        found.append(Line2D([], [], color=FAINT, lw=1, label=label))
    return found


def _points(curve: Curve, quantity: str) -> list[tuple[float, float]]:
    rows = (row for row in curve.rows if math.isfinite(row.get(quantity, math.nan)))
    return [(row["epoch"], row[quantity]) for row in rows]


def _draw(ax: Axes, curve: Curve, quantity: str) -> None:
    points = _points(curve, quantity)
    if not points:
        return
    style: dict[str, Any] = {"color": curve.colour, "linestyle": curve.line}
    if not curve.role:
        ax.plot(*zip(*points, strict=True), **style, alpha=0.6, lw=1, marker=_dot(points))
        return
    ax.plot(*zip(*points, strict=True), **style, lw=2.4, marker=_dot(points), zorder=4)
    at = [point for point in points if point[0] == curve.epoch]
    if at:
        marker = ROLES[curve.role]
        size = 11 if marker == "*" else 7
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.8}
        ax.plot(*at[0], marker, color=curve.colour, ms=size, zorder=5, **edge)


def _dot(points: Sequence[tuple[float, float]]) -> str:
    """A single epoch is no line."""
    return "o" if len(points) == 1 else ""


def _envelope(ax: Axes, all_of: Sequence[Curve], quantity: str) -> None:
    values: dict[float, list[float]] = {}
    for curve in all_of:
        for epoch, value in _points(curve, quantity):
            values.setdefault(epoch, []).append(value)
    epochs = sorted(values)
    if epochs:
        low, middle, high = np.array(
            [np.percentile(values[epoch], (BAND[0], 50, BAND[1])) for epoch in epochs]
        ).T
        ax.fill_between(epochs, low, high, color=FAINT, alpha=0.25, lw=0)
        ax.plot(epochs, middle, color=FAINT, lw=1)

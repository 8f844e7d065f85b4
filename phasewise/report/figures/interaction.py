"""Interaction plots: a measure over the values of one key, a line for each level of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import whisker
from phasewise.report.figures.style import MARKERS, canvas, handle, legend_below

LINES = ("-", "--", ":", "-.")
DODGE = 0.06
"""By how much the lines of all levels lie apart, of the distance of two values."""


@dataclass(frozen=True)
class Line:
    """A level: its means over the values of the other key, with their deviations; NaN where there
    is no result, or a single one."""

    means: Sequence[float]
    stds: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """A measure over a key.

    Attributes:
        key: of the horizontal axis, with its ``values``.
        measure: title of the vertical axis.
        lines: one per level.
        decades: whether the vertical axis is logarithmic.
        possible: ends that the measure cannot leave, nor its error bars.
    """

    key: str
    values: Sequence[str]
    measure: str
    lines: Sequence[Line]
    decades: bool = False
    possible: tuple[float, float] = (-np.inf, np.inf)


def interactions(
    rows: Sequence[Sequence[Panel]], levels: Sequence[str], colours: Sequence[str]
) -> Figure:
    """A row of panels per measure, which share its axis; levels also differ in line and marker."""
    columns = max(len(row) for row in rows)
    figure, axes = canvas(len(rows), columns, height=2.4, sharey="row")
    shifts = np.linspace(-DODGE, DODGE, len(levels)) if len(levels) > 1 else [0.0]
    for number, row in enumerate(rows):
        for ax, panel in zip(axes[number * columns :], row, strict=False):
            at = np.arange(len(panel.values))
            for place, (line, colour) in enumerate(zip(panel.lines, colours, strict=True)):
                style: dict[str, Any] = {"color": colour, "marker": MARKERS[place % len(MARKERS)]}
                style |= {"linestyle": LINES[place % len(LINES)], "capsize": 2.5, "elinewidth": 0.8}
                pairs = zip(line.means, line.stds, strict=True)
                sides = np.array([whisker(*pair, panel.possible) for pair in pairs]).T
                ax.errorbar(at + shifts[place], line.means, yerr=sides, **style)
            long = max(map(len, panel.values)) * len(at) * columns > 90
            turn: dict[str, Any] = {"rotation": 35, "ha": "right"} if long else {}
            ax.set_xticks(at, distinct(panel.values, 24), **turn)
            ax.set_xlim(-0.4, len(at) - 0.6)
            ax.set(xlabel=panel.key, ylabel=panel.measure)
            if panel.decades:
                ax.set_yscale("log")
                ax.yaxis.set_major_formatter("{x:g}")  # the default is a formula
                ax.yaxis.set_minor_formatter("")
            ax.label_outer()
            ax.xaxis.set_tick_params(labelbottom=True)
            ax.grid(visible=False, axis="x")
    named = zip(levels, colours, strict=True)
    legend_below(
        figure,
        [
            handle(ink, name, marker=MARKERS[i % len(MARKERS)], linestyle=LINES[i % len(LINES)])
            for i, (name, ink) in enumerate(named)
        ],
    )
    return figure

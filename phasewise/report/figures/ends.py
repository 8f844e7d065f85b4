"""The best epoch of configurations against their last one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import possible_range, whisker
from phasewise.report.figures.style import (
    FAINT,
    INK,
    PAPER,
    canvas,
    handle,
    legend_below,
    name_rows,
)
from phasewise.report.text import number, percent


@dataclass(frozen=True)
class Ends:
    """A configuration.

    Attributes:
        name: of it.
        best: mean over seeds at the best epoch; ``last`` at the last one, NaN where unknown.
        std: over seeds, of the best; NaN of one seed.
        change: from best to last in percent of the best; NaN where one of them is unknown.
    """

    name: str
    best: float
    last: float
    std: float
    change: float


def best_against_last(
    rows: Sequence[Ends], metric: str, colours: Sequence[str], what: str = ""
) -> Figure:
    """A full point at the best epoch, a hollow one at the last, and the change beside them.

    Args:
        rows: the configurations, best first.
        metric: what is drawn.
        colours: one per row.
        what: what their names are.
    """
    figure, (ax,) = canvas(height=1.0 + 0.38 * len(rows))
    possible = possible_range([row.best for row in rows])
    for place, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        if not math.isnan(row.last):
            ax.plot((row.best, row.last), (place, place), color=colour, lw=2, alpha=0.5, zorder=2)
            ax.plot(row.last, place, "o", mfc=PAPER, mec=colour, mew=1.5, ms=7, zorder=3)
        if not math.isnan(row.std):
            line: dict[str, Any] = {"ecolor": INK, "elinewidth": 0.8, "capsize": 2.5, "zorder": 4}
            sides = whisker(row.best, row.std, possible)
            ax.errorbar(row.best, place, xerr=[[side] for side in sides], **line)
        ax.plot(row.best, place, "o", color=colour, ms=7, zorder=5)
        change = (
            "" if math.isnan(row.change) else f"   {percent(row.change) if row.change else '0 %'}"
        )
        text = f"{number(row.best)}{change}"
        ax.annotate(text, (row.best, place), (0, 8), textcoords="offset points", ha="center")
    short = distinct([row.name for row in rows], 36)
    names = [f"{rank}. {name}" for rank, name in enumerate(short, 1)]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.8)
    ax.margins(x=0.15)
    ax.set_xlabel(metric)
    name_rows(ax, what)
    ax.grid(visible=False, axis="y")
    dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 7}
    shown = [handle(FAINT, "at the best epoch", **dot)]
    if any(not math.isnan(row.last) for row in rows):
        shown.append(handle(FAINT, "at the last epoch", mfc=PAPER, mew=1.5, **dot))
    legend_below(figure, shown)
    return figure

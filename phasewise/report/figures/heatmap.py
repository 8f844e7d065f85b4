"""A measure over two numeric keys, a panel per level of a third."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import robust_limits
from phasewise.report.figures.style import FAINT, WIDTH, canvas

COLOURS = "cividis"
MANY = 12
"""Columns of cells in a figure beyond which their names have no room beside each other."""

FITTING = 5
"""Characters of a name that fits below a cell."""

FITTING_NUMBER = 6
"""Characters of a number that fits into a cell."""

MOST_NUMBERS = 150
"""Cells beyond which they are not written into, for they could not be read."""

End = Literal["highest", "lowest", ""]


@dataclass(frozen=True)
class Measure:
    """One row of panels.

    Attributes:
        title: with its unit.
        grids: (Y, X) each, NaN where nothing is known; one per level.
        best: whether the ``highest`` or the ``lowest`` cell of each panel is framed.
    """

    title: str
    grids: Sequence[np.ndarray]
    best: End


def heatmaps(
    measures: Sequence[Measure],
    levels: Sequence[str],
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]],
) -> Figure:
    """Rows of panels share their colours, so that levels can be compared; see `colour_scale`.

    Args:
        measures: the rows.
        levels: titles of the columns.
        x: key and values of the horizontal axis; ``y`` of the vertical one.
    """
    columns = len(levels)
    width = min(WIDTH, 1.6 + 0.6 * len(x[1]) * columns + 0.4 * columns)
    height = 0.75 + min(0.36 * len(y[1]), 3.0)
    figure, axes = canvas(len(measures), columns, height=height, width=max(3.6, width))
    count = sum(grid.size for measure in measures for grid in measure.grids)
    for row, measure in enumerate(measures):
        known = np.concatenate([grid[np.isfinite(grid)] for grid in measure.grids])
        scale, extend = colour_scale(measure)
        mine = axes[row * columns : (row + 1) * columns]
        for ax, grid, level in zip(mine, measure.grids, distinct(levels, 22), strict=True):
            _panel(ax, grid, scale)
            _frame(ax, grid, measure, known)
            if count <= MOST_NUMBERS:
                _write(ax, grid, scale, whole=not np.any(known % 1))
            names = distinct(x[1], 12)
            wide = max(map(len, names)) > FITTING
            turn: dict[str, Any] = {"rotation": 60} if wide or len(names) * columns > MANY else {}
            ax.set_xticks(range(len(names)), names, **turn)
            ax.set_yticks(range(len(y[1])), distinct(y[1], 12))
            ax.set(title=level if row == 0 else "", xlabel=x[0])
            ax.label_outer(remove_inner_ticks=True)  # beside a number they look like a minus
        mine[0].set_ylabel(y[0])
        colours = mpl.cm.ScalarMappable(scale, COLOURS)
        bar = figure.colorbar(colours, ax=mine, label=measure.title, shrink=0.9, pad=0.02, **extend)
        if isinstance(scale, LogNorm):
            bar.ax.yaxis.set_major_formatter("{x:g}")  # the default is a formula
            bar.ax.yaxis.set_minor_formatter("")
    return figure


def colour_scale(measure: Measure) -> tuple[Normalize, dict[str, Any]]:
    """The colours of a row of panels, such that a cell far off, unless it is the best, leaves the
    others theirs.

    Values above 0 that span two decades without it have logarithmic colours.

    Returns:
        The scale, and ``extend`` for the colour bar where a cell lies outside; else nothing.
    """
    known = np.concatenate([grid[np.isfinite(grid)] for grid in measure.grids])
    best = {"highest": known.max, "lowest": known.min}.get(measure.best)
    kept = np.flatnonzero(known == best()).tolist() if best and known.size else []
    cells = [[value] for value in known.tolist()]
    limits = robust_limits(cells, may_be_log=True, whole=False, kept=kept)
    if limits is None:
        return Normalize(0, 1), {}
    inside = np.delete(known, list(limits.outside))
    low, high = float(inside.min()), float(inside.max())
    ends = known.min() < low, known.max() > high
    extend = {(True, False): "min", (False, True): "max", (True, True): "both"}.get(ends)
    scale = LogNorm(low, high) if limits.log else Normalize(low, high)
    return scale, {"extend": extend} if extend else {}


def _panel(ax: Axes, grid: np.ndarray, scale: Normalize) -> None:
    ax.imshow(grid, cmap=COLOURS, norm=scale, origin="lower", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _write(ax: Axes, grid: np.ndarray, scale: Normalize, *, whole: bool) -> None:
    for (i, j), value in np.ndenumerate(grid):
        text, tone = "-", FAINT
        if np.isfinite(value):
            text = f"{value:.0f}" if whole else ""
            text = text if 0 < len(text) <= FITTING_NUMBER else _short(value)
            tone = "#000000" if scale(value) > 0.55 else "#ffffff"
        ax.text(j, i, text, ha="center", va="center", color=tone, fontsize=6)


def _short(value: float) -> str:
    """What fits into a cell: four digits, zeros at the end too, or as many as fit.

    >>> [_short(value) for value in (0.12346, 0.189, 0.007416, 123456.0, 5.3e-6)]
    ['0.1235', '0.1890', '0.0074', '1.2e5', '5.3e-6']
    """
    for digits in (4, 3, 2):
        if len(text := f"{value:#.{digits}g}".rstrip(".")) <= FITTING_NUMBER:
            return text
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def _frame(ax: Axes, grid: np.ndarray, measure: Measure, known: np.ndarray) -> None:
    """The best cells of a panel; those that are the best of all panels with a thicker frame."""
    pick = {"highest": np.max, "lowest": np.min}.get(measure.best)
    own = grid[np.isfinite(grid)]
    if pick is None or not own.size:
        return
    width = 2.5 if pick(own) == pick(known) else 1.2
    for i, j in np.argwhere(grid == pick(own)):
        frame = Rectangle((j - 0.47, i - 0.45), 0.94, 0.9)
        frame.set(fill=False, edgecolor="#D55E00", linewidth=width)
        ax.add_patch(frame)

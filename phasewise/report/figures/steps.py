"""Losses of single training steps: how noisy they are, over steps and over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from phasewise.report.figures.limits import limit_axis, robust_limits
from phasewise.report.figures.style import FAINT, canvas, legend_below

MOST_POINTS = 600
"""Of a line; of more steps, the least and the greatest of each stretch are drawn."""

WINDOW = 20
"""The running mean is over one part in so many of a run's steps, but over `SHORTEST` at least."""
SHORTEST = 5


@dataclass(frozen=True)
class StepCurve:
    """One run: arrays (n,) of steps, epochs, and of each loss by name."""

    step: np.ndarray
    epoch: np.ndarray
    losses: dict[str, np.ndarray]
    colour: str


def draw_steps(
    all_of: Sequence[StepCurve], quantities: Sequence[str], legend: Sequence[Line2D]
) -> Figure:
    """A row per quantity: over optimizer steps, and over epochs. Thin: each step; thick: mean."""
    figure, axes = canvas(len(quantities), 2, height=2.4, sharey="row")
    for row, quantity in enumerate(quantities):
        shown = [curve for curve in all_of if quantity in curve.losses]
        groups = [_finite(curve.losses[quantity]) for curve in shown]
        limits = robust_limits(groups, may_be_log=True, whole=False, only_above=True)
        for ax, abscissa in zip(axes[2 * row : 2 * row + 2], ("step", "epoch"), strict=True):
            for curve in shown:
                _draw(ax, getattr(curve, abscissa), curve.losses[quantity], curve.colour)
            ax.set(xlabel=abscissa if abscissa == "epoch" else "optimizer step")
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            limit_axis(ax, limits)
        axes[2 * row].set_ylabel(quantity)
        axes[2 * row + 1].set_title("")
    marks = [
        Line2D([], [], color=FAINT, lw=0.6, alpha=0.6, label="each step"),
        Line2D([], [], color=FAINT, lw=1.6, label="running mean"),
    ]
    legend_below(figure, [*legend, *marks])
    return figure


def _finite(values: np.ndarray) -> list[float]:
    return [float(value) for value in values[np.isfinite(values)]]


def running_mean(values: np.ndarray) -> np.ndarray:
    """The centred mean over a part of a run, see `WINDOW`; shorter at the ends."""
    half = max(len(values) // WINDOW, SHORTEST) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    mean: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return mean


def _draw(ax: Axes, x: np.ndarray, values: np.ndarray, colour: str) -> None:
    known = np.isfinite(values)
    x, values = x[known], values[known]
    if not len(x):
        return
    ax.plot(*extremes(x, values), color=colour, lw=0.5, alpha=0.35, marker="o"[: len(x) == 1])
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    ax.plot(x[chosen], running_mean(values)[chosen], color=colour, lw=1.6)


def extremes(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of a line, or the least and the greatest of each stretch in their order."""
    if len(x) <= MOST_POINTS:
        return x, values
    found = []
    for part in np.array_split(np.arange(len(x)), MOST_POINTS // 2):
        found += sorted({part[values[part].argmin()], part[values[part].argmax()]})
    return x[found], values[found]

"""Trials as points and as ranked bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import DECADES, possible_range
from phasewise.report.figures.style import INK, PLAIN, WIDTH, canvas, name_rows
from phasewise.report.text import number


@dataclass(frozen=True)
class Point:
    """A trial: where it lies, and its colour and marker."""

    x: float
    y: float
    colour: str
    marker: str = "o"


SHADES = ListedColormap(colormaps["viridis"](np.linspace(0.3, 0.95, 256)))
"""From few to many; the darkest ones would be lost on a dark page."""


@dataclass(frozen=True)
class Shade:
    """What fills points beside the colour of their outline.

    Attributes:
        values: one per point, whole numbers.
        title: what they are.
    """

    values: Sequence[float]
    title: str


def scatter(
    points: Sequence[Point],
    x: str,
    y: str,
    legend: Sequence[Line2D],
    *,
    whole: bool = False,
    star: int | None = None,
    shade: Shade | None = None,
) -> Figure:
    """Points with their axes' titles.

    Args:
        points: the trials.
        x: title of the horizontal axis with its unit; ``y`` of the vertical one.
        legend: what colours and markers stand for.
        whole: whether the horizontal axis counts.
        star: index of the point that is marked as the best.
        shade: a number that points are filled by; their colour is then that of their outline.
    """
    figure, (ax,) = canvas(height=3.0, width=WIDTH * 0.8)
    _draw(ax, points, shade)
    if star is not None:
        where: dict[str, Any] = {
            "facecolor": "none",
            "edgecolor": INK,
            "linewidth": 1.1,
            "zorder": 5,
        }
        ax.scatter(points[star].x, points[star].y, marker="*", s=190, **where)
    ax.set(xlabel=x, ylabel=y)
    across = [point.x for point in points]
    if whole:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    elif min(across) > 0 and max(across) >= min(across) * 10**DECADES:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")  # the default is a formula
        ax.xaxis.set_minor_formatter("")
    else:  # numbers of many digits have no room for more beside the legend
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    best = Line2D([], [], ls="", marker="*", mfc="none", mec=INK, ms=10, label="best run")
    entries = [*legend, *([best] if star is not None else [])]
    if entries:
        figure.legend(handles=entries, loc="outside right upper")
    return figure


def _draw(ax: Axes, points: Sequence[Point], shade: Shade | None) -> None:
    """The points, a call per colour and marker, and what their fillings stand for."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, point in enumerate(points):
        groups.setdefault((point.colour, point.marker), []).append(index)
    size = 36 if len(points) < 200 else 12
    for (colour, marker), group in groups.items():
        places = [points[i].x for i in group], [points[i].y for i in group]
        if shade is None:
            ax.scatter(*places, color=colour, marker=marker, s=size, alpha=0.8, linewidths=0)
            continue
        drawn = ax.scatter(
            *places,
            c=[shade.values[i] for i in group],
            cmap=SHADES,
            vmin=min(shade.values),
            vmax=max(shade.values),
            edgecolors=colour,
            linewidths=1.4,
            marker=marker,
            s=1.3 * size,
        )
    if shade is not None:
        figure = ax.get_figure(root=True)
        assert figure is not None
        bar = figure.colorbar(drawn, ax=ax, label=shade.title, pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def ranking(
    names: Sequence[str],
    values: Sequence[float],
    title: str,
    colours: Sequence[str] | None = None,
    what: str = "",
) -> Figure:
    """Horizontal bars, the first on top, each with its value; ``what`` says what the names are."""
    figure, (ax,) = canvas(height=0.7 + 0.24 * len(names))
    places = np.arange(len(names))
    ax.barh(places, values, color=colours or PLAIN, height=0.65)
    for place, value in zip(places, values, strict=True):
        ax.annotate(number(value), (value, place), (3, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, distinct(names, 44))
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(title)
    name_rows(ax, what)
    ax.grid(visible=False, axis="y")
    return figure


def draw_intervals(
    names: Sequence[str],
    middles: Sequence[float],
    ends: Sequence[tuple[float, float] | None],
    title: str,
    colours: Sequence[str],
) -> Figure:
    """Scores with their confidence intervals, one below the other.

    Where all scores are fractions, intervals end at 0 and 1: beyond, there can be none.
    """
    low, high = possible_range(middles)
    figure, (ax,) = canvas(height=0.8 + 0.3 * len(names))
    for place, (middle, pair, colour) in enumerate(zip(middles, ends, colours, strict=True)):
        if pair is not None:
            shown = max(pair[0], low), min(pair[1], high)
            ax.plot(shown, (place, place), color=colour, lw=2.5, solid_capstyle="butt")
        ax.plot(middle, place, "o", color=colour, ms=7)
        text = number(middle)
        ax.annotate(text, (middle, place), (0, 7), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(names)), distinct(names, 30))
    ax.set_ylim(len(names) - 0.4, -0.7)
    ax.margins(x=0.08)  # for half of a number
    ax.set_xlabel(title)
    ax.grid(visible=False, axis="y")
    return figure

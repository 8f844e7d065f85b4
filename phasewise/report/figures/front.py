"""Configurations by two metrics, with those that nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasewise.report.figures.scatter import Point
from phasewise.report.figures.style import INK, WIDTH, canvas, handle, legend_below

GAP = (6.0, 10.0)
"""Points that a character of a number is wide, and that it is high, with some air."""

MOST_NUMBERED = 12
"""Points of the front beyond which their numbers would lie over each other."""


def trade_off(
    points: Sequence[Point],
    front: Sequence[int],
    titles: tuple[str, str],
    signs: tuple[float, float],
    legend: Mapping[str, str],
) -> Figure:
    """All points, and the front as steps through its points, which are numbered.

    Args:
        points: the configurations.
        front: indices of those on the front, by x, best first.
        titles: of the two axes, the horizontal one first.
        signs: 1 where more is better, -1 where less is, of the two axes.
        legend: colours by the name of what has them.
    """
    figure, (ax,) = canvas(height=3.6, width=WIDTH * 0.9)
    size = 36 if len(points) < 200 else 12
    for colour in dict.fromkeys(point.colour for point in points):
        group = [point for point in points if point.colour == colour]
        places = [p.x for p in group], [p.y for p in group]
        ax.scatter(*places, color=colour, s=size, alpha=0.75, linewidths=0)
    xs, ys = [points[row].x for row in front], [points[row].y for row in front]
    # below the steps lies what some point of the front dominates
    line: dict[str, Any] = {"color": INK, "lw": 1, "zorder": 2, "where": "post"}
    ax.step(xs, ys, **line)
    ring: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linewidth": 1.1, "zorder": 4}
    ax.scatter(xs, ys, s=size * 2.2, **ring)
    ax.margins(0.09)
    if len(front) <= MOST_NUMBERED:
        away = (7 * signs[0], 7 * signs[1])  # where no point can be
        ends = {1.0: ("left", "bottom"), -1.0: ("right", "top")}
        style: dict[str, Any] = {"ha": ends[signs[0]][0], "va": ends[signs[1]][1]}
        for text, place in numbered(ax, [*zip(xs, ys, strict=True)]):
            ax.annotate(text, place, away, textcoords="offset points", **style)
    ax.set(xlabel=titles[0], ylabel=titles[1])
    dots = [handle(colour, name, ls="", marker="o") for name, colour in legend.items()]
    mark = handle(INK, "Pareto front", marker="o", mfc="none", mec=INK, ms=8, linewidth=1)
    legend_below(figure, [*dots, mark])
    return figure


def numbered(
    ax: Axes, places: Sequence[tuple[float, float]]
) -> list[tuple[str, tuple[float, float]]]:
    """Numbers of points in their order, and where they stand: of neighbours whose numbers would lie
    over each other one text, ``2-4``, at the first of them."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    ax.autoscale_view()  # the limits are settled now, the layout nearly
    dots = ax.transData.transform(places) * 72 / figure.dpi
    groups: list[list[int]] = []
    for i, (x, y) in enumerate(dots):
        if groups:
            x0, y0 = dots[groups[-1][0]]
            if abs(x - x0) < GAP[0] * len(str(i + 1)) and abs(y - y0) < GAP[1]:
                groups[-1].append(i)
                continue
        groups.append([i])
    return [(_span(group), places[group[0]]) for group in groups]


def _span(group: Sequence[int]) -> str:
    first, last = str(group[0] + 1), str(group[-1] + 1)
    return first if first == last else f"{first}-{last}"

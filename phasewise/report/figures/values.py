"""What the values of a swept key score: bars with errors, violins and boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, radians, sin
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import possible_range, whisker
from phasewise.report.figures.style import FAINT, INK, PAPER, STAR, handle, legend_below, panel_grid

VIOLIN, BOX = 5, 3
"""Scores that a violin and a box need; fewer are points."""

MANY = 8
MOST_POINTS = 60
"""Scores of a value beyond which their points are smaller."""

LONGEST = 32
"""Characters of a value's name on an axis."""

CHARACTER = 0.062
"""Inches that one takes."""

SLANT, FITS = 35, 12
"""Degrees by which long names are turned; characters up to which they leave enough of a panel."""

MEAN: dict[str, Any] = {"ms": 4.5, "mfc": PAPER, "mec": INK, "mew": 1.0, "zorder": 4}
BOX_STYLE: dict[str, Any] = {
    "widths": 0.22,
    "showfliers": False,
    **{f"{part}props": {"color": INK, "linewidth": 0.9} for part in ("box", "whisker", "cap")},
    "medianprops": {"color": INK, "linewidth": 1.8},
}


@dataclass(frozen=True)
class Value:
    """The scores of all trials with one value of a key."""

    name: str
    colour: str
    scores: Sequence[float]


def bars(keys: Mapping[str, Sequence[Value]], metric: str, mode: str) -> Figure:
    """Mean per value with the standard deviation, the best score as a star; a panel per key.

    Where all scores are fractions, error bars end at 0 and 1: beyond, there can be none.
    """
    figure, axes = panel_grid(len(keys), wide=_many(keys.values()))
    for ax, (key, values) in zip(axes, keys.items(), strict=True):
        means = [float(np.mean(value.scores)) for value in values]
        errors = [float(np.std(v.scores, ddof=1)) if len(v.scores) > 1 else nan for v in values]
        whiskers = np.array([within(values, m, e) for m, e in zip(means, errors, strict=True)]).T
        top = max if mode == "max" else min
        best = [top(value.scores) for value in values]
        places = list(range(len(values)))
        colours = [value.colour for value in values]
        ax.bar(places, means, yerr=whiskers, color=colours, width=0.7, ecolor=INK, capsize=3)
        if max(len(value.scores) for value in values) == 1:  # each is its own best
            places = [best.index(top(best))]
        ax.scatter(places, [best[place] for place in places], **STAR)
        low = [m - (0.0 if isnan(e) else e) for m, e in zip(means, whiskers[0], strict=True)]
        _zoom(ax, low, [*means, *best])
        _name(ax, key, values, metric)
    return _grown(figure)


def within(values: Sequence[Value], mean: float, error: float) -> tuple[float, float]:
    """How far an error bar goes down and up; not out of 0..1 where all scores are fractions."""
    ends = possible_range([score for value in values for score in value.scores])
    return whisker(mean, error, ends)


def pairs(
    keys: Mapping[str, Sequence[tuple[Value, Value]]],
    metric: str,
    names: Sequence[tuple[str, str]],
) -> Figure:
    """The single scores of two studies beside each other; ``names`` with their colours."""
    figure, axes = panel_grid(len(keys), wide=_many(keys.values()))
    for ax, (key, both) in zip(axes, keys.items(), strict=True):
        for place, pair in enumerate(both):
            for value, shift in zip(pair, (-0.2, 0.2), strict=True):
                ax.bar(place + shift, value.scores[0], color=value.colour, width=0.38)
        scores = [value.scores[0] for pair in both for value in pair]
        _zoom(ax, scores, scores)
        _name(ax, key, [one for one, _ in both], metric)
    legend_below(figure, [handle(colour, name) for name, colour in names])
    return _grown(figure)


def distributions(keys: Mapping[str, Sequence[Value]], metric: str) -> Figure:
    """Violins with boxes inside where there are enough scores, all scores as points, and their mean
    as a diamond."""
    figure, axes = panel_grid(len(keys), wide=_many(keys.values()))
    draw = np.random.default_rng(0)
    for ax, (key, values) in zip(axes, keys.items(), strict=True):
        boxes = {i: value.scores for i, value in enumerate(values) if len(value.scores) >= BOX}
        if boxes:
            ax.boxplot([*boxes.values()], positions=[*boxes], **BOX_STYLE)
        for place, value in enumerate(values):
            if len(value.scores) >= VIOLIN and np.ptp(value.scores) > 0:
                found = ax.violinplot(value.scores, [place], widths=0.8, showextrema=False)
                for body in found["bodies"]:  # type: ignore[attr-defined]
                    body.set(facecolor=value.colour, alpha=0.35, edgecolor=value.colour)
            many = len(value.scores) > MOST_POINTS
            shift = draw.uniform(-0.07, 0.07, len(value.scores)) * (len(value.scores) > 1)
            style: dict[str, Any] = {"color": value.colour, "mew": 0, "alpha": 0.8}
            ax.plot(place + shift, value.scores, "o", ms=1.5 if many else 3, **style)
            if len(value.scores) > 1:
                ax.plot(place, np.mean(value.scores), "D", **MEAN)
        _name(ax, key, values, metric)
    return _grown(figure)


def _grown(figure: Figure) -> Figure:
    """Higher by what names that are turned would take from the panels."""
    names = [name for ax in figure.axes for name in ax.get_xticklabels() if name.get_rotation()]
    beyond = max((len(name.get_text()) for name in names), default=0) - FITS
    width, height = figure.get_size_inches()
    rows = figure.axes[0].get_gridspec().nrows  # type: ignore[union-attr]
    figure.set_size_inches(width, height + rows * max(0, beyond) * CHARACTER * sin(radians(SLANT)))
    return figure


def _many(keys: Iterable[Sequence[object]]) -> bool:
    """Whether a third of the width is too little for the names of so many values."""
    return max(map(len, keys)) > MANY


def _zoom(ax: Axes, low: Sequence[float], high: Sequence[float]) -> None:
    """Bars begin at 0 unless that would hide all differences; then the axis says so."""
    bottom, top = min(low), max(high)
    if bottom > 0 and top - bottom < 0.25 * top:
        margin = 0.25 * (top - bottom) or 0.05 * top
        ax.set_ylim(bottom - margin, top + margin)
        ax.set_title("axis does not begin at 0", loc="left", fontsize=6, color=FAINT)


def _name(ax: Axes, key: str, values: Sequence[Value], metric: str) -> None:
    space = 80 if len(values) > MANY else 32  # characters
    names = distinct([value.name for value in values], LONGEST)
    long = max(map(len, names)) * len(names) > space
    turn: dict[str, Any] = (
        {"rotation": SLANT, "ha": "right", "rotation_mode": "anchor"} if long else {}
    )
    ax.set_xticks(range(len(values)), names, **turn)
    ax.set_xlim(-0.6, len(values) - 0.4)
    ax.set_xlabel(key)
    if ax.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        ax.set_ylabel(metric)
    ax.grid(visible=False, axis="x")

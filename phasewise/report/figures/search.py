"""How a search went: the best so far, and every trial over each key and over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.limits import DECADES, Limits, limit_axis, robust_limits
from phasewise.report.figures.style import (
    FAINT,
    PALETTE,
    STAR,
    WIDTH,
    canvas,
    legend_below,
    panel_grid,
)
from phasewise.report.text import number

SHADES = mpl.colormaps["viridis"]

JITTER = 0.12
"""Choices are drawn beside each other by as much, so that trials do not cover each other."""

MOST_TICKS = 12
"""Names of choices on an axis."""


@dataclass(frozen=True)
class Scale:
    """A searched key as an axis.

    Attributes:
        name: of the key.
        low, high: ends of what was searched; of choices 0 and their last index.
        log: whether it was searched on a logarithmic scale.
        choices: their names in order; none of a number.
    """

    name: str
    low: float
    high: float
    log: bool = False
    choices: tuple[str, ...] = ()

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values (n,) lie between the ends: 0 to 1."""
        if self.low == self.high:
            return np.full(len(values), 0.5)
        ends = np.array([self.low, self.high], float)
        if self.log:
            ends, values = np.log(ends), np.log(values)
        share: np.ndarray = (values - ends[0]) / (ends[1] - ends[0])
        return share


def best_so_far(
    branches: Mapping[str, np.ndarray], mode: str, metric: str, *, at_random: int, incumbent: bool
) -> Figure:
    """Scores of trials in the order asked for, NaN without a result, and the best of them.

    Args:
        branches: by their names scores (n,), of which the first is the incumbent's; where there is
            one, it needs no name.
        mode: ``max`` or ``min``.
        metric: title of the axis.
        at_random: so many after the incumbent were drawn at random; 0 where none was told apart.
        incumbent: whether there is one.
    """
    figure, axes = canvas(height=2.7) if len(branches) == 1 else panel_grid(len(branches))
    everything = np.concatenate([*branches.values()])
    known = everything[np.isfinite(everything)]
    limits = _limits(known, mode) if len(known) else None
    random = failed = False
    for place, (ax, (name, scores)) in enumerate(zip(axes, branches.items(), strict=True)):
        own = _progress(ax, scores, mode, at_random=at_random, incumbent=incumbent)
        random, failed = random or own[0], failed or own[1]
        limit_axis(ax, limits)
        ax.set_xlabel("trial, in the order asked for")
        if place % 3 == 0 or len(branches) in (2, 4):
            ax.set_ylabel(metric)
        ax.set_title(name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(figure, _legend(random, failed, incumbent))
    return figure


def _progress(
    ax: Axes, scores: np.ndarray, mode: str, *, at_random: int, incumbent: bool
) -> tuple[bool, bool]:
    """Scores (n,) and the best so far; whether some were drawn at random, and some have none."""
    number_of = np.arange(len(scores))
    known = np.isfinite(scores)
    best = np.fmax if mode == "max" else np.fmin
    if known.any():
        first = int(np.argmax(known))
        line = best.accumulate(scores[first:])
        ax.step(number_of[first:], line, where="post", color=PALETTE[0], lw=1.8)
    random = (number_of > 0) & (number_of <= at_random)
    asked = known & ~random & ((number_of > 0) | (not incumbent))
    ax.scatter(number_of[asked], scores[asked], s=14, color=PALETTE[0])
    ax.scatter(number_of[known & random], scores[known & random], s=14, color=PALETTE[1])
    ax.scatter(
        number_of[~known],
        np.zeros((~known).sum()),
        marker="x",
        s=22,
        color=FAINT,
        transform=ax.get_xaxis_transform(),
        clip_on=False,
    )
    if incumbent and len(known) and known[0]:
        ax.axhline(scores[0], color=FAINT, lw=0.9, ls="--")
        ax.scatter(0, scores[0], s=14, color=FAINT, zorder=3)
    return bool(random.any()), bool((~known).any())


def _limits(scores: np.ndarray, mode: str) -> Limits | None:
    """One that is far off must not press the others flat; the best is always inside."""
    groups = [[float(value)] for value in scores]
    best = int(scores.argmax() if mode == "max" else scores.argmin())
    return robust_limits(groups, may_be_log=False, whole=False, kept=[best])


def _legend(random: bool, failed: bool, incumbent: bool) -> list[Line2D]:
    dot = {"ls": "", "marker": "o", "ms": 4}
    entries = [Line2D([], [], color=PALETTE[0], lw=1.8, label="best so far")]
    entries.append(Line2D([], [], color=PALETTE[0], label="asked for by the sampler", **dot))  # type: ignore[arg-type]
    if random:
        entries.append(Line2D([], [], color=PALETTE[1], label="drawn at random", **dot))  # type: ignore[arg-type]
    if failed:
        entries.append(
            Line2D([], [], color=FAINT, ls="", marker="x", ms=5, label="no result, or stopped")
        )
    if incumbent:
        entries.append(Line2D([], [], color=FAINT, ls="--", lw=0.9, label="incumbent"))
    return entries


def slices(
    scales: Sequence[Scale], values: np.ndarray, scores: np.ndarray, metric: str, mode: str
) -> Figure:
    """Each key alone: a dot per trial, darker ones earlier; the best has a star.

    Args:
        scales: k keys.
        values: (k, n), indices of choices.
        scores: (n,), finite.
        metric: title of the axis.
        mode: ``max`` or ``min``.
    """
    best = int(scores.argmax() if mode == "max" else scores.argmin())
    figure, axes = panel_grid(len(scales))
    shade = np.linspace(0, 0.92, len(scores))
    spread = _apart(len(scores)) * 2 * JITTER
    limits = _limits(scores, mode)
    for place, (ax, scale) in enumerate(zip(axes, scales, strict=True)):
        across = values[place] + (spread if scale.choices else 0)
        ax.scatter(across, scores, c=SHADES(shade), s=14, linewidths=0)
        ax.scatter(across[best], scores[best], clip_on=False, **STAR)
        _scaled(ax, scale)
        limit_axis(ax, limits)
        ax.set_xlabel(scale.name)
        if place % 3 == 0 or len(scales) in (2, 4):
            ax.set_ylabel(metric)
    return figure


def _apart(count: int) -> np.ndarray:
    """(count,) numbers in [-0.5, 0.5), neighbours far from each other: the golden ratio's."""
    return np.arange(count) * 0.618 % 1 - 0.5


def _scaled(ax: Axes, scale: Scale) -> None:
    if scale.choices:
        step = -(-len(scale.choices) // MOST_TICKS)
        shown = range(0, len(scale.choices), step)
        names = distinct([scale.choices[place] for place in shown], 14)
        few = len(shown) <= 4 and max(map(len, names)) <= 8
        ax.set_xticks(
            list(shown), names, rotation=0 if few else 35, ha="center" if few else "right"
        )
        ax.set_xlim(-0.5, len(scale.choices) - 0.5)
        return
    if scale.log:
        ax.set_xscale("log")
        ax.set_xlim(scale.low / 1.05, scale.high * 1.05)
        few = scale.high >= scale.low * 10**DECADES
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0), numticks=4))
        ax.xaxis.set_major_formatter("{x:g}")  # the default is a formula
        ax.xaxis.set_minor_formatter("")
    else:
        margin = 0.03 * (scale.high - scale.low)
        ax.set_xlim(scale.low - margin, scale.high + margin)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))


def parallel(
    scales: Sequence[Scale], values: np.ndarray, scores: np.ndarray, metric: str, mode: str
) -> Figure:
    """A line per trial through its values, brighter and on top where it scored better.

    Args:
        scales: k keys.
        values: (k, n), indices of choices.
        scores: (n,), finite.
        metric: what the colours stand for.
        mode: ``max`` or ``min``.
    """
    figure, (ax,) = canvas(height=3.0, width=WIDTH)
    rank = np.argsort(np.argsort(scores if mode == "max" else -scores, kind="stable"))
    share = rank / max(len(scores) - 1, 1)
    heights = np.stack([one.share(row) for one, row in zip(scales, values, strict=True)], axis=1)
    nudge = _apart(len(scores)) * 0.04
    for place, one in enumerate(scales):
        if one.choices:
            heights[:, place] += nudge
    order = np.argsort(share, kind="stable")
    across = np.broadcast_to(np.arange(len(scales)), heights.shape)
    lines = np.stack([across, heights], axis=2)[order]
    colours = SHADES(0.05 + 0.9 * share[order])
    colours[:, 3] = 0.25 + 0.65 * share[order]
    widths = np.where(share[order] >= 0.9, 1.6, 0.8)
    ax.add_collection(LineCollection(list(lines), colors=colours, linewidths=widths))
    for place, one in enumerate(scales):
        ax.axvline(place, color=FAINT, lw=0.8, zorder=0)
        _name_ends(ax, one, place)
    ax.set(xlim=(-0.3, len(scales) - 0.5), ylim=(-0.08, 1.08), yticks=[])
    ax.set_xticks(range(len(scales)), distinct([one.name for one in scales], 22))
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ends = number(float(scores.min())), number(float(scores.max()))
    worse, better = ends if mode == "max" else ends[::-1]
    entries = [
        Line2D([], [], color=SHADES(0.05), lw=2, label=f"worst {metric} ({worse})"),
        Line2D([], [], color=SHADES(0.95), lw=2, label=f"best ({better})"),
    ]
    legend_below(figure, entries)
    return figure


def _name_ends(ax: Axes, one: Scale, place: int) -> None:
    names = distinct(list(one.choices), 14) if one.choices else [f"{one.low:g}", f"{one.high:g}"]
    count = len(names)
    chosen = range(count) if count <= MOST_TICKS else (0, count - 1)
    for index in chosen:
        height = 0.5 if count == 1 else index / (count - 1)
        text = f"{names[index]}{' (log)' if one.log and index else ''}"
        box = {"facecolor": "none", "edgecolor": "none", "pad": 0}
        ax.annotate(
            text, (place, height), (3, 0), textcoords="offset points", size=7, va="center", bbox=box
        )

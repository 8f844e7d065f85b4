"""Which phase started from which, as boxes below each other: narrow enough for a telephone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from phasewise.report.figures.labels import distinct
from phasewise.report.figures.style import FAINT, GRID, INK, PALETTE, canvas

WIDTH = 3.7
"""Inches: 355 px, what a telephone of 390 px has beside its margins."""

LINE, GAP, PADDING = 0.155, 0.13, 0.09
"""Inches: the height of a line of text, the space between boxes, and that within them."""

STEP, DEEPEST = 0.24, 1.3
"""Inches by which a box is set in below the one that it starts from, and at most by all of them."""

CHARACTER = 0.067
"""Inches that a character of 8 points is wide on average."""


@dataclass(frozen=True)
class Box:
    """A phase.

    Attributes:
        title: its number and name.
        value: its winner's score, as text.
        lines: below these: the winner, and what else there is to say.
        parent: index of the box above it that it starts from; ``None`` of the first one.
        depth: how many boxes lie between it and the first one.
        is_chosen: whether the final configuration has come through it.
    """

    title: str
    value: str
    lines: Sequence[str]
    parent: int | None
    depth: int
    is_chosen: bool


def draw_tree(boxes: Sequence[Box]) -> Figure:
    """The boxes from top to bottom, each set in below its parent and joined to it by a line."""
    step = min(STEP, DEEPEST / max(1, *(box.depth for box in boxes)))
    boxes = [_wrapped(box, _fitting(step * box.depth)) for box in boxes]
    heights = [2 * PADDING + LINE * (1 + len(box.lines)) for box in boxes]
    total = sum(heights) + GAP * (len(boxes) - 1)
    figure, (ax,) = canvas(height=total + 0.06, width=WIDTH)
    ax.set_axis_off()
    ax.set(xlim=(-0.02, WIDTH), ylim=(total + 0.03, -0.03))
    tops, top = list[float](), 0.0
    for height in heights:
        tops.append(top)
        top += height + GAP
    for place, box in enumerate(boxes):
        if box.parent is not None:
            x = step * boxes[box.parent].depth + step / 2
            bottom, y = tops[box.parent] + heights[box.parent], tops[place] + heights[place] / 2
            colour, width = (PALETTE[0], 1.6) if box.is_chosen else (FAINT, 0.8)
            line = [x, x, step * box.depth], [bottom, y, y]
            ax.plot(*line, color=colour, lw=width, zorder=2 if box.is_chosen else 1)
        _draw(ax, box, step * box.depth, tops[place], heights[place])
    return figure


def _fitting(left: float) -> int:
    """Characters of a line in a box that begins ``left`` inches from the margin."""
    return int((WIDTH - left - 0.02 - 2 * PADDING) / CHARACTER)


def _wrapped(box: Box, fits: int) -> Box:
    """The same with lines that are no longer; a single longer word loses its middle."""
    parts = [
        part
        for text in box.lines
        for part in wrap(text, fits, break_long_words=False, break_on_hyphens=False)
    ]
    return replace(box, lines=[distinct([part], fits)[0] for part in parts])


def _draw(ax: Axes, box: Box, left: float, top: float, height: float) -> None:
    edge = {"edgecolor": PALETTE[0], "linewidth": 1.6} if box.is_chosen else {"edgecolor": GRID}
    room = WIDTH - left - 0.02
    shape = FancyBboxPatch(
        (left, top), room, height, boxstyle="round,pad=0,rounding_size=0.05", facecolor="none"
    )
    shape.set(**edge)
    ax.add_patch(shape)
    inside, y = left + PADDING, top + PADDING + LINE / 2
    (title,) = distinct([box.title], _fitting(left) - len(box.value) - 1)
    weight = "bold" if box.is_chosen else "normal"
    ax.text(inside, y, title, va="center", fontsize=8, color=INK, fontweight=weight)
    right = left + room - PADDING
    ax.text(right, y, box.value, va="center", ha="right", fontsize=8, color=INK, fontweight=weight)
    for number, text in enumerate(box.lines, 1):
        ax.text(inside, y + number * LINE, text, va="center", fontsize=7.5, color=FAINT)

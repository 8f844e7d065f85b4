"""Names beside what they name: short, and no two the same or over each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from matplotlib.axes import Axes

GAP = 0.095
"""Between two labels at the ends of lines, in inches."""

SIZE = 6
"""Of these labels, in points."""


def distinct(names: Sequence[str], length: int = 28) -> list[str]:
    """Names of at most about ``length`` characters; different ones stay different.

    Lists that are too long lose the items that they begin with alike. A name that still is too long
    loses its middle; where that makes two alike, they lose what they begin and end with alike.

    >>> distinct(["flip", "rotate"], 5), distinct(["abcd1efgh", "abcd2efgh"], 7)
    (['flip', 'ro…te'], ['…1efgh', '…2efgh'])
    >>> distinct(["[flip]", "[flip,rotate]", "[flip,resize]"], 9)
    ['[flip]', '…rotate]', '…resize]']
    """
    long = [name for name in {*names} if len(name) > length]
    start = long[0].rfind(",", 0, _common(long)) + 1 if len(long) > 1 else 0
    found = [_cut(f"…{n[start:]}" if start and n in long else n, length) for n in names]
    for text, count in Counter(found).items():
        places = [i for i, one in enumerate(found) if one == text]
        alike = list(dict.fromkeys(names[i] for i in places))
        if count > 1 and len(alike) > 1:
            short = dict(zip(alike, _differences(alike, length), strict=True))
            for i in places:
                found[i] = short[names[i]]
    return found


def _cut(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    head = length // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"


def _differences(names: Sequence[str], length: int) -> list[str]:
    """Of different names that are alike when cut."""
    start = _common(names)
    short = [_cut(f"…{name[start:]}", length) for name in names]
    if len(set(short)) == len(short):
        return short
    return [f"{_cut(name, length - 4)} ({i})" for i, name in enumerate(names, 1)]


def _common(names: Sequence[str]) -> int:
    """How many letters they begin with alike."""
    letters = zip(*names, strict=False)
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, letters))


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right of an axes whose limits are settled, at the height of their lines' ends.

    Args:
        ax: of lines.
        ends: x, y, name and colour of each; those beyond the axes are named at its edge.
    """
    if not ends:
        return
    low, high = sorted(ax.get_ylim())
    ax.get_xlim()  # settles it
    inside = [(x, min(max(y, low), high)) for x, y, *_ in ends]
    to_axes = ax.transData + ax.transAxes.inverted()
    wished = [float(y) for _, y in to_axes.transform(inside)]
    heights = spread(wished, GAP / _inches(ax))
    for point, height, (*_, name, colour) in zip(inside, heights, ends, strict=True):
        ax.annotate(
            name,
            point,
            (1.03, height),
            textcoords="axes fraction",
            fontsize=SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.8,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _inches(ax: Axes) -> float:
    """About its height, before the layout is settled."""
    figure, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None
    rows = 1 if place is None else int(place.get_gridspec().nrows)
    return 0.8 * float(figure.get_size_inches()[1]) / rows


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights within 0..1 in the same order, at least ``gap`` apart as far as there is room.

    >>> [round(h, 2) for h in spread([0.5, 0.5, 0.9], 0.2)]
    [0.4, 0.6, 0.9]
    """
    count = len(heights)
    gap = min(gap, 1 / max(count - 1, 1))
    order = np.argsort(heights, kind="stable")
    # Blocks of labels that touch, each at the mean of where its labels would like to be.
    blocks: list[list[float]] = []  # wished bottom, count
    for index in order:
        blocks.append([heights[index], 1])
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] * gap > blocks[-1][0] + 1e-12:
            (low, many), (high, more) = blocks[-2:]
            blocks[-2:] = [[(low * many + (high - many * gap) * more) / (many + more), many + more]]
    found = np.empty(count)
    placed, lowest = 0, 0.0
    for bottom, many in blocks:
        first = min(max(bottom, lowest), 1 - (many - 1) * gap)
        for step in range(int(many)):
            found[order[placed]] = first + step * gap
            placed += 1
        lowest = first + many * gap
    if found.max(initial=0) > 1 + 1e-9:  # blocks pushed up from below
        found[order] = np.linspace(max(0.0, 1 - (count - 1) * gap), 1, count)
    return [float(height) for height in found]

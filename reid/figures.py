"""Pictures of retrieval: ranked lists of the best and worst queries, and the CMC curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasewise.figures import panels, show
from reid.ranked import Ranked

RIGHT, WRONG, QUERY = "#009E73", "#D55E00", "0.3"
"""Bluish green and vermilion of Okabe & Ito's palette, told apart by the colour-blind."""
FONT = 6.5


def ranked_figure(
    title: str,
    ranked: Sequence[Ranked],
    image: Callable[[int], np.ndarray],
    caption: Callable[[int], str],
    length: int = 10,
) -> Figure:
    """A row per query: the query and what was found first, framed by right (solid) and wrong
    (dashed).

    Args:
        title: above all.
        ranked: the queries.
        image: the picture (S, S, 3) of a row of the split.
        caption: its identity and camera.
        length: images after the query.
    """
    rows = max(len(ranked), 1)
    figure = Figure(figsize=(1.3 * (length + 1), 1.62 * rows + 0.5), dpi=120, layout="constrained")
    figure.suptitle(title)
    for line, one in zip(panels(figure, rows, length + 1), ranked, strict=False):
        text = f"AP {one.average_precision:.2f}  {caption(one.query)}"
        show(line[0], image(one.query), text, FONT)
        _frame(line[0], QUERY, "-")
        for ax, row, right in zip(line[1:], one.rows, one.right, strict=False):
            show(ax, image(row), caption(row), FONT)
            _frame(ax, RIGHT if right else WRONG, "-" if right else "--")
    return figure


def _frame(ax: Axes, colour: str, style: str) -> None:
    ax.set_axis_on()
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=3, linestyle=style)


def cmc_figure(curve: Sequence[float], title: str) -> Figure:
    """Share of queries with a right image among the first k, over k.

    Args:
        curve: (max_rank,), see `reid.metrics.ReidRetrieval`.
        title: of the figure.
    """
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    ax = figure.subplots()
    ranks = np.arange(1, len(curve) + 1)
    ax.plot(ranks, curve, marker=".")
    ax.set(xlabel="rank k", ylabel="queries with a hit among the first k", ylim=(0, 1.02))
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3)
    return figure

"""Pictures of retrieval: ranked lists of the best and worst queries, and the CMC curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid.ranked import Ranked

RIGHT, WRONG, QUERY = "#009E73", "#D55E00", "0.3"
"""Bluish green and vermilion of Okabe & Ito's palette, told apart by the colour-blind."""


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
    axes = figure.subplots(rows, length + 1, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, one in zip(axes, ranked, strict=False):
        _show(line[0], image(one.query), f"AP {one.average_precision:.2f}  {caption(one.query)}")
        _frame(line[0], QUERY, "-")
        for ax, row, right in zip(line[1:], one.rows, one.right, strict=False):
            _show(ax, image(row), caption(row))
            _frame(ax, RIGHT if right else WRONG, "-" if right else "--")
    return figure


def _show(ax: Axes, picture: np.ndarray, text: str) -> None:
    ax.imshow(picture)
    ax.set_title(text, fontsize=6.5, parse_math=False)  # identities come from strangers


def _frame(ax: Axes, colour: str, style: str) -> None:
    ax.set_axis_on()
    ax.set(xticks=[], yticks=[])
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

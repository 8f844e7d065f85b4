"""Wholes divided into parts, as stacked bars."""

from __future__ import annotations

from matplotlib.figure import Figure

from phasewise.records.notes import Shares
from phasewise.report.figures.style import PALETTE, canvas, handle, legend_below
from phasewise.report.text import shortened

LEAST_WRITTEN = 0.06
"""A share that is smaller has no room for its number."""


def stacked(shares: Shares) -> Figure:
    """A bar below the other, each part in its colour with its percentage."""
    figure, (ax,) = canvas(height=0.9 + 0.36 * len(shares.bars))
    parts = list(next(iter(shares.bars.values())))
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(parts))]
    for place, bar in enumerate(shares.bars.values()):
        left = 0.0
        for part, colour in zip(parts, colours, strict=True):
            ax.barh(place, bar[part], left=left, color=colour, height=0.66)
            if bar[part] >= LEAST_WRITTEN:
                where = (left + bar[part] / 2, place)
                text = f"{100 * bar[part]:.1f} %"
                ax.text(*where, text, ha="center", va="center", color="white", fontsize=7)
            left += bar[part]
    ax.set_yticks(range(len(shares.bars)), [shortened(name, 44) for name in shares.bars])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel=f"{shares.title} (fraction)")
    ax.grid(visible=False, axis="y")
    named = zip(parts, colours, strict=True)
    legend_below(figure, [handle(colour, part, linewidth=6) for part, colour in named])
    return figure

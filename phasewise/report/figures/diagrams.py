"""What tasks show of configurations, drawn over each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from phasewise.records.notes import Diagram
from phasewise.report.figures.style import handle, legend_below, panel_grid


def overlaid(diagrams: Sequence[Diagram], colours: Sequence[str]) -> Figure:
    """A panel for each curve that one of them has, over the first."""
    abscissa, *names = dict.fromkeys(name for one in diagrams for name in one.curves)
    figure, axes = panel_grid(len(names))
    for ax, name in zip(axes, names, strict=True):
        for one, colour in zip(diagrams, colours, strict=False):
            if name in one.curves:
                ax.plot(one.curves[abscissa], one.curves[name], color=colour)
        ax.set(xlabel=abscissa, ylabel=name)
        if any(name in one.log for one in diagrams):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")  # the default is a formula
            low, high = ax.get_ylim()
            few = high < low * 10  # then at most one tick is a power of ten
            ax.yaxis.set_minor_formatter("{x:g}" if few else "")
    handles = [handle(c, one.label, most=60) for one, c in zip(diagrams, colours, strict=False)]
    legend_below(figure, handles)
    return figure

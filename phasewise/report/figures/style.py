"""How all figures look: type, ink and colours, and how they become files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phasewise.report.figures.labels import distinct
from phasewise.report.text import plain, shortened
from phasewise.study.results import Setting

WIDTH = 6.6
"""Of a figure in inches: the text width of an A4 or letter page."""

DPI = 300
"""Of pictures for print."""

INK, FAINT, GRID = "#24292f", "#6e7781", "#d0d7de"
PAPER = "#fffffe"
"""Inside hollow points: white in print, and another colour than the white of letters on dark."""

ON_DARK = {INK: "#e6edf3", FAINT: "#9198a1", GRID: "#3d444d", PAPER: "#161b22"}
"""What ink and paper become on a dark page."""

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999")
"""Okabe & Ito's, told apart by the colour-blind; no black and no yellow, which one of the two
pages would swallow."""

MORE = ("#5124F2", "#A61919", "#8BBF69", "#8C3166", "#5572F2", "#738C4D", "#9C6B30")
"""Seven more where a key has up to fourteen values, chosen to lie far from the others also for the
colour-blind (CIELAB, Machado et al. 2009); lines in these colours have dots on them too."""

ON_DARK |= {"#5124f2": "#6841f4", "#a61919": "#c91e1e", "#8c3166": "#aa3c7c"}  # too dark there

DOT = "o"

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PLAIN = PALETTE[0]
STAR: dict[str, Any] = {
    "marker": "*",
    "s": 160,
    "facecolor": "#D55E00",
    "edgecolor": PAPER,
    "linewidth": 0.8,
    "zorder": 5,
}

_SETTINGS: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,  # ticks are what they say, not what is to be added
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # names come from strangers
    "svg.hashsalt": "report",
}


def styled() -> AbstractContextManager[None]:
    """Within it, figures are made and saved."""
    return mpl.rc_context(_SETTINGS)


def canvas(
    rows: int = 1, columns: int = 1, *, height: float = 2.7, width: float = WIDTH, **more: Any
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes in reading order; ``height`` of one row in inches."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **more)
    return figure, list(axes.flatten())


def panel_grid(count: int, height: float = 2.5, *, wide: bool = False) -> tuple[Figure, list[Axes]]:
    """``count`` axes of equal size, at most three in a row, or one if they are to be ``wide``."""
    columns = 1 if wide else 2 if count in (2, 4) else min(3, count)
    width = WIDTH if columns > 1 or wide else WIDTH * 0.7
    figure, axes = canvas(-(-count // columns), columns, height=height, width=width)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


class Colours:
    """The colour of each value of each swept key, the same in all figures of a report."""

    def __init__(self, values: Mapping[str, Sequence[Setting]]) -> None:
        """``values``: of each key, in the order in which they are told apart."""
        self._of: dict[tuple[str, Setting], str] = {}
        self._dotted: set[tuple[str, Setting]] = set()
        first = 0
        for key, those in values.items():
            names = list(dict.fromkeys(those))
            for name, colour in zip(names, _colours(len(names), first), strict=True):
                self._of[key, name] = colour
                if colour in MORE:
                    self._dotted.add((key, name))
            first += len(names)

    def of(self, key: str, value: Setting) -> str:
        """Of a value, as a hexadecimal number; grey for one that was not announced."""
        return self._of.get((key, value), FAINT)

    def marker(self, key: str, value: Setting) -> str:
        """Of a line in that colour: of fourteen, every other seven have dots on them."""
        return DOT if (key, value) in self._dotted else ""


def _colours(count: int, first: int) -> list[str]:
    """Of as many values; ``first`` keeps values of different keys apart as far as it goes."""
    if count <= len(PALETTE):
        return [PALETTE[(first + i) % len(PALETTE)] for i in range(count)]
    if count <= len(PALETTE) + len(MORE):
        return [*PALETTE, *MORE][:count]
    shades = mpl.colormaps["viridis"](np.linspace(0.25, 0.9, count))
    return [mpl.colors.to_hex(shade) for shade in shades]


def thinned(entries: Sequence[Line2D], most: int = 10) -> list[Line2D]:
    """The first, the last and some between, where a legend would be too long."""
    if len(entries) <= most:
        return list(entries)
    return [entries[round(place)] for place in np.linspace(0, len(entries) - 1, most)]


def legend_below(figure: Figure, entries: Sequence[Line2D]) -> None:
    """A legend under all axes, in as many columns as fit; the figure grows by its height."""
    if entries:
        longest = max(len(str(entry.get_label())) for entry in entries)
        columns = int(figure.get_size_inches()[0] / (0.5 + 0.062 * longest))
        columns = max(1, min(columns, len(entries)))
        width, height = figure.get_size_inches()
        figure.set_size_inches(
            width, height + 0.16 * -(-len(entries) // columns)
        )  # panels keep theirs
        figure.legend(handles=entries, loc="outside lower center", ncols=columns)


def handle(colour: str, label: Any, most: int = 40, **more: Any) -> Line2D:
    """An entry of a legend, of ``most`` characters; a longer one loses its middle."""
    settings = {"color": colour, "linewidth": 2, **more}
    return Line2D([], [], label=distinct([plain(label)], most)[0], **settings)


def to_svg(figure: Figure) -> tuple[str, str]:
    """For light and dark pages, as data URIs; after `phasewise.figures.to_png`."""
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_alpha(0)
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    # A hundredth of a point cannot be seen, but halves the size.
    light = re.sub(r"([1-9]\d*\.\d\d)\d+", r"\1", file.getvalue())
    dark = re.sub("|".join(ON_DARK), lambda found: ON_DARK[found[0]], light)
    return data_uri(light.encode(), "image/svg+xml"), data_uri(dark.encode(), "image/svg+xml")


def data_uri(content: bytes, kind: str) -> str:
    """Content that a page carries within itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def name_rows(ax: Axes, what: str) -> None:
    """Say what the names of rows are, above them: beside two rows a long title has no room."""
    if what:
        ax.set_title(shortened(what, 60), loc="left", fontsize=7, color=FAINT)

"""Figures that every run leaves, curves of losses and metrics, and how figures become files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from common.history import Row

TRAIN, VAL = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe & Ito's palette, told apart by the colour-blind."""


def to_png(figure: Figure, dpi: float | None = None) -> bytes:
    """A figure as it is printed, on white. Settles the layout.

    ``savefig`` draws everything three times, and TensorBoard's ``add_figure`` once more.

    Args:
        figure: of any backend.
        dpi: pixels per inch; None: the figure's own.
    """
    figure.set_facecolor("white")
    figure.set_dpi(dpi or figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    file = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(file, "PNG", dpi=(figure.dpi, figure.dpi), compress_level=4)
    return file.getvalue()


def curves(rows: Sequence[Row], objective: Mapping[str, str], best: Row | None) -> Figure | None:
    """Training and validation values over the epochs, one panel per quantity.

    Per-class values (two slashes) are left out. A dotted line marks the best epoch.

    Returns:
        None without any epoch.
    """
    names = {key for row in rows for key in row if "/" in key}
    panels = sorted({name.split("/", 1)[1] for name in names if name.count("/") == 1})
    panels.sort(key=lambda name: (name != "loss", f"val/{name}" != objective["metric"], name))
    if not panels:
        return None
    columns = min(len(panels), 3)
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3 * height), dpi=120, layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False).flatten()
    for ax, panel in zip(axes, panels, strict=False):
        for split, colour in (("train", TRAIN), ("val", VAL)):
            points = [(r["epoch"], r[f"{split}/{panel}"]) for r in rows if f"{split}/{panel}" in r]
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, marker=".", label=split)
        if best is not None:
            ax.axvline(best["epoch"], color="0.5", linestyle=":", label="best epoch")
        ax.set(title=panel, xlabel="epoch")
        ax.grid(alpha=0.3)
    for ax in axes[len(panels) :]:
        ax.remove()
    axes[0].legend()
    return figure

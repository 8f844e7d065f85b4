"""Figures that every run leaves, curves of losses and metrics, and how figures become files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from phasewise.errors import OTHER_DIRECTORY
from phasewise.storage import write_whole

TRAIN, VAL = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe & Ito's palette, told apart by the colour-blind."""


def to_png(figure: Figure, dpi: float | None = None) -> bytes:
    """A figure as it is printed, on white. Settles the layout.

    ``savefig`` draws everything three times, and TensorBoard's ``add_figure`` once more.

    Args:
        figure: of any backend.
        dpi: pixels per inch; None: the figure's own.
    """
    return _encode(_draw(figure, dpi), figure.dpi)


@contextmanager
def written(advice: str = OTHER_DIRECTORY) -> Iterator[Callable[[Figure, Path], None]]:
    """Gives what draws figures into PNG files, which are all there when the context ends.

    A thread compresses and writes one while the next is predicted or drawn; only drawing itself
    allows no thread beside it.

    Raises:
        UserError: at the end, if one could not be written.
    """
    saved: list[Future[None]] = []
    with ThreadPoolExecutor(1) as writer:

        def write(figure: Figure, path: Path) -> None:
            saved.append(writer.submit(_save, _draw(figure), figure.dpi, path, advice))

        yield write
    for each in saved:
        each.result()


def _draw(figure: Figure, dpi: float | None = None) -> Image.Image:
    figure.set_facecolor("white")
    figure.set_dpi(dpi or figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))


def _encode(image: Image.Image, dpi: float) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", dpi=(dpi, dpi), compress_level=4)
    return file.getvalue()


def _save(image: Image.Image, dpi: float, path: Path, advice: str) -> None:
    write_whole(path, _encode(image, dpi), advice)


def panels(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Axes (rows, columns) for pictures. Without ticks they are laid out in half the time."""
    axes: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
        ax.xaxis.set_visible(False)
        ax.yaxis.set_visible(False)
    return axes


def show(ax: Axes, picture: np.ndarray, title: str, fontsize: float = 9) -> None:
    """A picture (H, W, 3) in one of the `panels`. Titles name files: no mathtext."""
    ax.imshow(picture)
    ax.set_title(title, y=1, fontsize=fontsize, parse_math=False)


def painted(image: np.ndarray, regions: Mapping[Any, np.ndarray], opacity: float) -> np.ndarray:
    """The image in grey, with regions in their colours: on colour, a similar one cannot be seen.

    Args:
        image: (H, W, 3), uint8, or fractions.
        regions: bool (H, W) by colour, as matplotlib knows it; later ones lie over earlier ones.
        opacity: of the colours, 0..1.

    Returns:
        Fractions (H, W, 3).
    """
    grey = image.astype(np.float32).mean(2, keepdims=True)
    picture: np.ndarray = (grey / 255 if image.dtype == np.uint8 else grey).repeat(3, 2)
    for colour, where in regions.items():
        picture[where] = (1 - opacity) * picture[where] + opacity * np.asarray(to_rgb(colour))
    return picture.clip(0, 1)


def curves(
    rows: Sequence[Mapping[str, float]],
    objective: Mapping[str, str],
    best: Mapping[str, float] | None,
) -> Figure | None:
    """Training and validation values over the epochs, one panel per quantity.

    Of names with two slashes the terms of the loss are shown; per-class values are left out. A
    dotted line marks the best epoch. A loss that falls through two decades has a logarithmic axis.

    Returns:
        None without any epoch.
    """
    names = {key.split("/", 1)[1] for row in rows for key in row if "/" in key}
    panels = sorted(name for name in names if "/" not in name or name.startswith("loss/"))
    first = objective["metric"].partition("/")[2]
    panels.sort(
        key=lambda name: (name != "loss", name != first, not name.startswith("loss/"), name)
    )
    if not panels:
        return None
    columns = min(len(panels), 3)
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3 * height), dpi=120, layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False).flatten()
    for ax, panel in zip(axes, panels, strict=False):
        values = []
        for split, colour in (("train", TRAIN), ("val", VAL)):
            points = [(r["epoch"], r[f"{split}/{panel}"]) for r in rows if f"{split}/{panel}" in r]
            values += [value for _, value in points if np.isfinite(value)]
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, marker=".", label=split)
        if best is not None:
            ax.axvline(best["epoch"], color="0.5", linestyle=":", label="best epoch")
        ax.set(title=panel, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if panel.startswith("loss") and values and 0 < 100 * min(values) <= max(values):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")  # the default is a formula
        ax.grid(alpha=0.3)
    for ax in axes[len(panels) :]:
        ax.remove()
    axes[0].legend()
    return figure

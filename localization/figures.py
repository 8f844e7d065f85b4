"""Pictures of boxes: predictions over the truth, and how good they are by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from localization.metrics import paired_iou
from phasewise.augment.color import denormalize
from phasewise.figures import TRAIN, VAL, panels, show
from phasewise.records.notes import Shares

Array = npt.NDArray[np.floating]

TRUE_STYLE: dict[str, Any] = {"color": "white", "linestyle": "-", "linewidth": 1.8}
PREDICTED_STYLE: dict[str, Any] = {"color": "#E5202B", "linestyle": "--", "linewidth": 1.8}
OUTLINE = withStroke(linewidth=3.2, foreground="black", alpha=0.55)
"""Lets both be seen on images of their own colour."""

COLUMNS = 4
BINS = 20

BANDS = (0.5, 0.7, 0.9)
"""IoUs where bands end: a hit or not, and how good."""

EXACT = 1e-4
"""Pixels that float32 may take from a whole one."""


@dataclass
class Example:
    """One image with its true and predicted box, (4,) in pixels; ``score`` is their IoU."""

    name: str
    score: float
    image: np.ndarray
    truth: Array
    prediction: Array


def make_example(name: str, image: Tensor, truth: Tensor, prediction: Tensor) -> Example:
    """What `examples_figure` draws.

    Args:
        name: of the image.
        image: normalised (3, S, S).
        truth: (4,), x1, y1, x2, y2 as fractions of the side.
        prediction: likewise.
    """
    side = image.shape[-1]
    return Example(
        name=name,
        score=float(paired_iou(prediction[None], truth[None])),
        image=denormalize(image).permute(1, 2, 0).cpu().numpy(),
        truth=(truth.float() * side).cpu().numpy(),
        prediction=(prediction.float() * side).cpu().numpy(),
    )


def examples_figure(title: str, examples: Sequence[Example]) -> Figure:
    """An image each, with the prediction (dashed red) over the truth (solid white)."""
    columns = max(1, min(COLUMNS, len(examples)))
    rows = max(1, -(-len(examples) // columns))
    size = (2.9 * max(columns, 2), 3.1 * rows + 0.8)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    figure.suptitle(title)
    for ax, example in zip(panels(figure, rows, columns).flat, examples, strict=False):
        show(ax, example.image, f"{_shortened(example.name)}   IoU {example.score:.2f}")
        _frame(ax, example.truth, TRUE_STYLE)
        _frame(ax, example.prediction, PREDICTED_STYLE)
    handles = [
        Line2D([], [], label=label, path_effects=[OUTLINE], **style)
        for label, style in (("truth", TRUE_STYLE), ("prediction", PREDICTED_STYLE))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def show_truth(ax: Axes, image: np.ndarray, box: Array, title: str) -> None:
    """An image (S, S, 3) with its box (4,), x1, y1, x2, y2 in pixels."""
    show(ax, image, title)
    _frame(ax, box, TRUE_STYLE)


def _shortened(name: str, most: int = 24) -> str:
    """The end of a name, where files differ."""
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _frame(ax: Axes, box: Array, style: Mapping) -> None:
    x1, y1, x2, y2 = (float(v) - 0.5 for v in box)  # imshow puts pixel centres on whole numbers
    frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style)
    frame.set_path_effects([OUTLINE])
    ax.add_patch(frame)


def iou_bands(ious: Mapping[str, Array], split: str) -> Shares:
    """Which shares of the images have an IoU in which band.

    Args:
        ious: (N,), of each image, by who predicted the boxes; N > 0.
        split: for the name of the figure, and its caption.
    """
    edges = (-np.inf, *BANDS, np.inf)
    names = [f"up to {BANDS[0]:g}"]
    names += [f"above {low:g} to {high:g}" for low, high in pairwise(BANDS)]
    names += [f"above {BANDS[-1]:g}"]
    bars = {}
    for who, values in ious.items():
        # an IoU of exactly .5 is no hit, see `localization.metrics.BoxIoU`
        counts = [np.mean((values > low) & (values <= high)) for low, high in pairwise(edges)]
        bars[who] = dict(zip(names, map(float, counts), strict=True))
    caption = (
        f"IoU of the images of the {split} split by band, of the network with its best weights "
        "and of trivial predictors."
    )
    name = "iou_bands" if split == "val" else f"{split}_iou_bands"
    return Shares(name, "share of the images, by IoU", caption, bars)


def iou_histogram(ious: Array, trivial: Mapping[str, float], split: str) -> Figure:
    """How many images have which IoU; the mean is marked, and those of trivial predictors.

    Args:
        ious: (N,), of each image.
        trivial: mean IoU by the predictor's name.
        split: for the title.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    ax = figure.subplots()
    ax.hist(ious, bins=BINS, range=(0, 1), color=TRAIN, alpha=0.75)
    mean = float(np.mean(ious)) if len(ious) else float("nan")
    ax.axvline(mean, color=VAL, lw=2, label=f"mean {mean:.3f}")
    styles = ("-", "--", ":", "-.")
    ranked = sorted(trivial.items(), key=lambda pair: -pair[1])
    for i, (name, value) in enumerate(ranked):
        style = styles[i % len(styles)]
        ax.axvline(value, color="0.25", lw=1, linestyle=style, label=f"{name} {value:.3f}")
    ax.set(xlabel="IoU", ylabel="images", xlim=(0, 1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(f"IoU of {len(ious)} {split} images", fontsize=10)
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)  # bars may be anywhere
    return figure


def iou_by_size(ious: Array, boxes: Array) -> Figure:
    """IoU over the size of the true box, a point per image, with a running median.

    Args:
        ious: (N,), of each image.
        boxes: (N, 4), the true ones as fractions of the side.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    ax = figure.subplots()
    sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    ax.scatter(sizes, ious, s=16, color=TRAIN, alpha=0.6, linewidths=0)
    if len(ious):
        window = min(len(ious), max(15, len(ious) // 8))
        at, medians = running_median(sizes, ious, window)
        ax.plot(at, medians, color=VAL, lw=2, label=f"median of {window} neighbours")
        ax.legend(fontsize=9, loc="lower right")
    ax.set(xlabel="square root of the true box's area, share of the image's side", ylabel="IoU")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.grid(alpha=0.3)
    return figure


def border_distance(boxes: Array) -> Array:
    """How near boxes (N, 4) come to a border of the image, (N,): 0 where they touch one; all as
    fractions of the side."""
    gaps = np.concatenate([boxes[:, :2], 1 - boxes[:, 2:]], axis=1)
    nearest: Array = gaps.min(axis=1, initial=1.0).clip(0, None)
    return nearest


def iou_by_border(ious: Array, boxes: Array, side: int) -> Figure:
    """IoU over the distance of the true box from the nearest border of the image, and the means of
    those that touch one and of the others.

    Args:
        ious: (N,), of each image.
        boxes: (N, 4), the true ones as fractions of the side.
        side: of the images in pixels; a box less than one from the border touches it.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    ax = figure.subplots()
    distances = border_distance(boxes)
    touching = distances * side < 1 - EXACT
    groups = {"touching a border": (touching, VAL, "s"), "inside": (~touching, TRAIN, "o")}
    for name, (chosen, colour, marker) in groups.items():
        if not chosen.any():
            continue
        mean = float(ious[chosen].mean())
        label = f"{name}: {chosen.sum()} images, mean IoU {mean:.3f}"
        style: dict[str, Any] = {"color": colour, "marker": marker, "alpha": 0.6, "linewidths": 0}
        ax.scatter(distances[chosen], ious[chosen], s=16, label=label, **style)
        ax.axhline(mean, color=colour, lw=1, linestyle="--")
    ax.set(xlabel="distance of the true box from the nearest border, share of the image's side")
    ax.set(ylabel="IoU", ylim=(0, 1.02))
    ax.grid(alpha=0.3)
    if len(ious):
        figure.legend(loc="outside lower center", fontsize=8)
    return figure


def running_median(x: Array, y: Array, window: int) -> tuple[Array, Array]:
    """Medians of x and of y over each ``window`` points that are neighbours in x.

    Args:
        x: (N,).
        y: (N,).
        window: 1 to N.

    Returns:
        Two arrays (N - window + 1,), in the order of x.
    """
    order = np.argsort(x, kind="stable")
    views = (np.lib.stride_tricks.sliding_window_view(a[order], window) for a in (x, y))
    at, medians = (np.median(view, axis=1) for view in views)
    return at, medians

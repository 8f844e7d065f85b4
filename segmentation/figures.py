"""Pictures of binary segmentations: predictions and their errors, precision and recall, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from phasewise.augment.color import denormalize
from phasewise.figures import painted, panels, show
from segmentation.metrics import LEVELS, VOID, jaccard_by_threshold, pr_curve

# Okabe & Ito's palette, which colour-blind readers can tell apart.
HIT, EXTRA, MISSED, UNLABELLED = "#009E73", "#E69F00", "#0072B2", "#999999"
LEGEND = {
    HIT: "found",
    EXTRA: "false positive",
    MISSED: "false negative (missed)",
    UNLABELLED: "void",
}
OPACITY = 0.7


@dataclass
class Example:
    """One image with truth and prediction on the CPU; ``score`` is its `image_jaccard`."""

    name: str
    score: float
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def make_example(name: str, image: Tensor, truth: Tensor, prediction: Tensor) -> Example:
    """What `examples_figure` draws.

    Args:
        name: of the image.
        image: normalised (3, S, S).
        truth: (S, S), 255 = void.
        prediction: bool (S, S).
    """
    return Example(
        name=name,
        score=float(image_jaccard(prediction[None], truth[None])),
        image=denormalize(image).permute(1, 2, 0).cpu().numpy(),
        truth=truth.cpu().numpy(),
        prediction=prediction.cpu().numpy(),
    )


def image_jaccard(prediction: Tensor, truth: Tensor) -> Tensor:
    """Hard Jaccard (B,) of each image alone, void left out; 1 where neither has any foreground.

    Args:
        prediction: bool (B, S, S).
        truth: (B, S, S), 255 = void.
    """
    predicted, wanted = prediction & (truth != VOID), truth == 1
    common, union = ((both).sum((1, 2)) for both in (predicted & wanted, predicted | wanted))
    return torch.where(union > 0, common / union.clamp(min=1), 1.0)


def examples_figure(title: str, examples: Sequence[Example]) -> Figure:
    """A row per example: the image, the truth, the prediction, and where the two differ."""
    rows = len(examples)
    figure = Figure(figsize=(11.5, 3.0 * rows + 0.8), dpi=120, layout="constrained")
    figure.suptitle(title)
    for row, example in zip(panels(figure, rows, 4), examples, strict=True):
        pictures = {
            f"{example.name}   Jaccard {example.score:.2f}": example.image,
            "truth": _truth(example.image, example.truth),
            "prediction": painted(example.image, {HIT: example.prediction}, OPACITY),
            "errors": painted(example.image, error_map(example), OPACITY),
        }
        for ax, (text, picture) in zip(row, pictures.items(), strict=True):
            show(ax, picture, text)
    handles = [Patch(color=colour, label=text) for colour, text in LEGEND.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _truth(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return painted(image, {HIT: mask == 1, UNLABELLED: mask == VOID}, OPACITY)


def show_truth(ax: Axes, image: np.ndarray, mask: np.ndarray, title: str) -> None:
    """An image (S, S, 3) under its mask (S, S): 1 = foreground, 255 = void."""
    show(ax, _truth(image, mask), title)


def truth_legend() -> list[Patch]:
    """The colours of `show_truth`."""
    return [Patch(color=HIT, label="foreground"), Patch(color=UNLABELLED, label=LEGEND[UNLABELLED])]


def error_map(example: Example) -> dict[str, np.ndarray]:
    """By colour, the pixels (S, S) that were found, wrongly found, missed, and unlabelled."""
    truth, void = example.truth == 1, example.truth == VOID
    return {
        HIT: example.prediction & truth,
        EXTRA: example.prediction & ~truth & ~void,
        MISSED: ~example.prediction & truth,
        UNLABELLED: void,
    }


def precision_recall_figure(histogram: Tensor, threshold: float, split: str) -> Figure:
    """Precision over recall of all pixels, and Jaccard over the threshold; the chosen one marked.

    Args:
        histogram: (2, 256), see `segmentation.metrics.PixelScores`.
        threshold: the chosen one.
        split: for the title.
    """
    figure = Figure(figsize=(9.5, 4.0), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    precision, recall = pr_curve(histogram)
    jaccard = jaccard_by_threshold(histogram)
    chosen = min(round(threshold * LEVELS), LEVELS - 1)
    left.plot(recall, precision)
    left.plot(recall[chosen], precision[chosen], "o", label=f"threshold {threshold:.2f}")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    left.legend()
    right.plot(np.arange(LEVELS) / LEVELS, jaccard)
    right.axvline(threshold, color="C1", label=f"threshold {threshold:.2f}")
    right.set(xlabel="threshold", ylabel="Jaccard", xlim=(0, 1), ylim=(0, 1.02))
    right.legend()
    for ax in (left, right):
        ax.grid(alpha=0.3)
    figure.suptitle(f"pixels of the {split} split")
    return figure


def counts_figure(counts: Sequence[tuple[int, int]], split: str) -> Figure:
    """Predicted over true numbers of objects, a point per image.

    Args:
        counts: (predicted, true) of each image.
        split: for the title.
    """
    figure = Figure(figsize=(4.8, 4.6), dpi=120, layout="constrained")
    ax = figure.subplots()
    predicted, true = np.array(counts).reshape(-1, 2).T
    limit = max([1, *predicted.tolist(), *true.tolist()]) * 1.05
    ax.plot([0, limit], [0, limit], color="0.6", lw=1, label="equal")
    ax.scatter(true, predicted, s=18, alpha=0.7)
    error = np.abs(predicted - true).mean() if len(true) else float("nan")
    ax.set(xlabel="true objects", ylabel="predicted objects", xlim=(0, limit), ylim=(0, limit))
    ax.set_title(f"objects per {split} image, mean error {error:.1f}", fontsize=10)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure

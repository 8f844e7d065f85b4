"""Pictures of the best and the worst predictions: mask and boxes, prediction against truth."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torchvision.ops import box_iou

from multitask.metrics import VOID, SegmentationScores
from phasewise.augment.color import denormalize
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.figures import painted, panels, show

SHOWN_SCORE = 0.3
"""Detections below this confidence are not drawn, and not counted in the score of an image."""
MATCH_IOU = 0.5
OPACITY = 0.45
WHITE = (1.0, 1.0, 1.0)

Look = tuple[Batch, Sequence[Tensor | None], Sequence[dict[str, Tensor] | None]]
"""A batch, its predicted masks (S, S) and its detections; None from a missing head."""


@dataclass
class Example:
    """One image with truth and prediction, on the CPU."""

    name: str
    score: float
    image: np.ndarray
    truth: np.ndarray | None
    mask: np.ndarray | None
    true_boxes: Tensor
    true_labels: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor


def best_and_worst(
    look: Callable[[Tensor], Look], data: StoreDataModule, split: str, count: int
) -> dict[str, Figure]:
    """``best`` and ``worst``: the ``count`` images of a split with the highest and lowest
    `image_score`; those without truth are left out.

    Args:
        look: predicts rows (B,) of the split.
        data, split, count: see `TaskModule.draw`.
    """
    names, classes = data.splits.names[split], data.splits.class_names
    scored = []
    for index in data.evaluated_rows(split).split(data.batch_size):
        batch, masks, found = look(index)
        for i, row in enumerate(index.tolist()):
            score = image_score(batch, i, masks[i], found[i], len(classes))
            if not math.isnan(score):
                scored.append((score, row))
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    figures = {}
    for title, chosen in (("best", scored[:count]), ("worst", scored[::-1][:count])):
        examples = []
        for score, row in chosen:
            batch, masks, found = look(torch.tensor([row]))
            examples.append(make_example(names[row], score, batch, 0, masks[0], found[0]))
        if examples:
            figures[title] = examples_figure(f"{title} {split} images", examples, classes)
    return figures


def image_score(
    batch: Batch, i: int, mask: Tensor | None, found: dict[str, Tensor] | None, classes: int
) -> float:
    """How good the prediction of one image is, in [0, 1]: the mean of what it has truth for.

    Segmentation counts with the mIoU over the image's classes, detection with the F1 score of boxes
    of the right class at IoU >= 0.5. NaN without any truth.
    """
    parts = []
    if mask is not None and bool(batch["has_mask"][i]):
        metric = SegmentationScores(classes, sync_on_compute=False).to(mask.device)
        metric.update(mask, batch["mask"][i])
        parts.append(float(metric.compute()["miou"]))
    if found is not None and bool(batch["has_boxes"][i]):
        real = batch["labels"][i] > 0
        shown = found["scores"] >= SHOWN_SCORE
        parts.append(
            box_f1(
                found["boxes"][shown],
                found["labels"][shown],
                batch["boxes"][i][real],
                batch["labels"][i][real],
            )
        )
    return float(np.nanmean(parts)) if parts else float("nan")


def box_f1(boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor) -> float:
    """F1 of detections ``(n, 4)``, best first, against ``(m, 4)``; 1 if there is none of either."""
    if not len(boxes) and not len(true_boxes):
        return 1.0
    iou = box_iou(boxes, true_boxes) * (labels[:, None] == true_labels[None])
    hits = 0
    for row in range(len(boxes)):
        if len(true_boxes) and iou[row].max() >= MATCH_IOU:
            iou[:, iou[row].argmax()] = 0
            hits += 1
    return 2 * hits / (len(boxes) + len(true_boxes))


def make_example(
    name: str,
    score: float,
    batch: Batch,
    i: int,
    mask: Tensor | None,
    found: dict[str, Tensor] | None,
) -> Example:
    """What `examples_figure` draws of image ``i`` of a batch."""
    real = batch["labels"][i] > 0
    shown = found["scores"] >= SHOWN_SCORE if found is not None else None
    none = torch.zeros(0)
    return Example(
        name=name,
        score=score,
        image=denormalize(batch["image"][i]).permute(1, 2, 0).cpu().numpy(),
        truth=batch["mask"][i].cpu().numpy() if bool(batch["has_mask"][i]) else None,
        mask=None if mask is None else mask.cpu().numpy(),
        true_boxes=batch["boxes"][i][real].cpu(),
        true_labels=batch["labels"][i][real].cpu(),
        boxes=none.view(0, 4) if found is None else found["boxes"][shown].cpu(),
        labels=none if found is None else found["labels"][shown].cpu(),
        scores=none if found is None else found["scores"][shown].cpu(),
    )


def examples_figure(title: str, examples: Sequence[Example], class_names: Sequence[str]) -> Figure:
    """A row per example: the image, the truth, the prediction; masks as colour, boxes as frames."""
    rows = len(examples)
    figure = Figure(figsize=(9.5, 3.15 * rows + 0.8), dpi=120, layout="constrained")
    figure.suptitle(title)
    seen: set[int] = set()
    axes = panels(figure, rows, 3)
    for (plain, truth, predicted), example in zip(axes, examples, strict=True):
        show(plain, example.image, f"{example.name}   score {example.score:.2f}")
        text = "truth" if example.truth is not None else "truth (no mask)"
        boxes = example.true_boxes, example.true_labels
        show_truth(truth, example.image, example.truth, *boxes, class_names, text)
        show(predicted, _painted(example.image, example.mask), "prediction")
        for box, label, score in zip(example.boxes, example.labels, example.scores, strict=True):
            text = f"{class_names[int(label)]} {float(score):.2f}"
            _frame(predicted, box, int(label), text, dashed=True)
        for array in (example.truth, example.mask):
            seen |= set() if array is None else set(np.unique(array).tolist())
        seen |= set(example.true_labels.int().tolist()) | set(example.labels.int().tolist())
    if handles := class_legend(seen, class_names):
        figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9)
    return figure


def class_legend(seen: Iterable[int], class_names: Sequence[str]) -> list[Patch]:
    """The colours of classes that were drawn."""
    labels = sorted({*seen} - {0, VOID})
    return [Patch(color=class_colour(label), label=class_names[label]) for label in labels]


def show_truth(
    ax: Axes,
    image: np.ndarray,
    mask: np.ndarray | None,
    boxes: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    title: str,
) -> None:
    """An image (S, S, 3) under its mask (S, S), with its boxes (n, 4) of classes (n,)."""
    show(ax, _painted(image, mask), title)
    for box, label in zip(boxes, labels, strict=True):
        _frame(ax, box, int(label), class_names[int(label)], dashed=False)


def class_colour(label: int) -> tuple[float, float, float]:
    """The same colour for the same class in every figure: hues a golden section apart."""
    return colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.8, 0.85)


def _painted(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    if mask is None:
        return painted(image, {}, OPACITY)
    labels = [int(label) for label in np.unique(mask) if label]
    regions = {WHITE if label == VOID else class_colour(label): mask == label for label in labels}
    return painted(image, regions, OPACITY)


def _frame(ax: Axes, box: Tensor, label: int, text: str, *, dashed: bool) -> None:
    x1, y1, x2, y2 = (float(v) - 0.5 for v in box)  # imshow puts pixel centres on whole numbers
    colour = class_colour(label)
    style = "--" if dashed else "-"
    frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, lw=1.8, linestyle=style)
    ax.add_patch(frame)
    # Text comes from class names of strangers: no mathtext.
    ax.text(
        x1,
        y1,
        text,
        fontsize=6.5,
        color="white",
        backgroundcolor=(*colour, 0.8),
        va="top",
        parse_math=False,
        clip_on=True,
    )

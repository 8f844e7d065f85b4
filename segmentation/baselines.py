"""Trivial predictors: what a network must beat to have learned anything; and what none can beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from skimage.filters import threshold_otsu
from torch import Tensor

from phasewise.data.batch import Rows
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.module import Scores
from segmentation.metrics import VOID, PixelScores, SegmentationScores, jaccard_by_threshold, level

OF_OBJECTS = ("object_f1", "count_error", "objects")

CHUNK = 64
"""Images looked at together."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

MakeScores = Callable[[], SegmentationScores]


def baselines(data: StoreDataModule, split: str, make_scores: MakeScores) -> dict[str, Scores]:
    """What each trivial predictor scores on a split, see `SegmentationScores.compute`.

    Predictions are 0 or 1, so the threshold does not matter. Every process looks at all that
    is evaluated.

    Args:
        data: whose stores hold ``image`` uint8 (N, 3, S, S), ``mask`` uint8 (N, S, S) and, where
            objects are scored, ``instances`` int (N, S, S).
        split: the one to score.
        make_scores: new metrics.
    """
    predictors = {
        "all_foreground": all_foreground,
        "all_background": all_background,
        "otsu": otsu,
        "perfect_mask": perfect_mask,
    }
    found = {name: score(data, split, make_scores) for name, score in predictors.items()}
    return {name: scores for name, scores in found.items() if scores}


def all_foreground(data: StoreDataModule, split: str, make_scores: MakeScores) -> Scores:
    """Every pixel is foreground."""
    return _score(data, split, make_scores, lambda batch: torch.ones_like(batch["mask"]))


def all_background(data: StoreDataModule, split: str, make_scores: MakeScores) -> Scores:
    """No pixel is foreground."""
    return _score(data, split, make_scores, lambda batch: torch.zeros_like(batch["mask"]))


def otsu(data: StoreDataModule, split: str, make_scores: MakeScores) -> Scores:
    """Each image is cut at Otsu's threshold of its own luma.

    Whether objects are the bright or the dark part is decided on the training split, by Jaccard.
    """
    bright, dark = PixelScores(sync_on_compute=False), PixelScores(sync_on_compute=False)
    for batch in _chunks(data, "train"):
        bright.update(otsu_mask(batch, dark=False).float(), batch["mask"])
        dark.update(otsu_mask(batch, dark=True).float(), batch["mask"])
    jaccard = [
        float(jaccard_by_threshold(metric.compute()["histogram"])[level(0.5)])
        for metric in (bright, dark)
    ]
    return _score(
        data, split, make_scores, lambda batch: otsu_mask(batch, dark=jaccard[1] > jaccard[0])
    )


def perfect_mask(data: StoreDataModule, split: str, make_scores: MakeScores) -> Scores:
    """The true mask: what its objects score, once touching ones are told apart by their shape.

    No network that makes masks does better at this size, for at few pixels objects merge that the
    files keep apart. Of pixels nothing is said: all are right.
    """
    scores = _score(data, split, make_scores, lambda batch: batch["mask"] == 1)
    return {name: value for name, value in scores.items() if name in OF_OBJECTS}


def otsu_mask(batch: Rows, *, dark: bool) -> Tensor:
    """Each image's brighter or darker part by Otsu's threshold, bool (B, S, S).

    Void pixels (the border of a letterboxed image) have no say in the threshold. In an image of
    one value neither part is anything.
    """
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    luma = (batch["image"] * weights).sum(1).round().to(torch.uint8)
    found = torch.zeros(luma.shape, dtype=torch.bool)
    for i, known in enumerate(batch["mask"] != VOID):
        values = luma[i][known].numpy()
        if np.ptp(values) if len(values) else 0:
            found[i] = (luma[i] > int(threshold_otsu(values))) ^ dark
    return found


def _score(
    data: StoreDataModule,
    split: str,
    make_scores: MakeScores,
    predict: Callable[[Rows], Tensor],
) -> Scores:
    metrics = make_scores()
    for batch in _chunks(data, split):
        metrics.update(predict(batch).float(), batch["mask"], batch.get("instances"))
    return metrics.compute(choose=False, sync=False)


def _chunks(data: StoreDataModule, split: str) -> Iterator[Rows]:
    """All training images; of another split those that are evaluated."""
    store = data.splits.stores[split]
    rows = torch.arange(len(store)) if split == "train" else data.evaluated_rows(split)
    for index in rows.split(CHUNK):
        yield {field: tensor.cpu() for field, tensor in store.gather(index).items()}

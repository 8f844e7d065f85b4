"""Scores of binary segmentation: pixels, by one histogram for all thresholds, and objects.

Probabilities are taken in `LEVELS` steps: level q = floor(256 p), at most 255. At the threshold
k / 256 a pixel is foreground if q >= k, which is p >= k / 256 exactly; so the scores of pixels and
of objects, and masks drawn with ``p >= threshold``, agree to the pixel.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from phasewise.training.module import Scores
from segmentation.objects import Matches, match_objects, split_objects

VOID = 255
"""Mask value of pixels that count for nothing."""

LEVELS = 256

Counts = list[tuple[int, int]]
"""Per image: predicted and true number of objects."""


def quantise(probabilities: Tensor) -> Tensor:
    """Levels floor(256 p) as uint8, 255 for p = 1, 0 for NaN."""
    return (probabilities.float() * LEVELS).nan_to_num(0).clamp(0, LEVELS - 1).to(torch.uint8)


def level(threshold: float) -> int:
    """k in 1..255 for which k / 256 is nearest to a threshold."""
    return min(max(round(threshold * LEVELS), 1), LEVELS - 1)


def image_histograms(levels: Tensor, mask: Tensor) -> Tensor:
    """Pixels of each image by truth and level, void ones left out.

    Args:
        levels: uint8 (B, H, W), see `quantise`.
        mask: uint8 (B, H, W), 0, 1 or `VOID`.

    Returns:
        int32 (B, 2, 256).
    """
    bins = 3 * LEVELS  # the third part is void
    start = torch.arange(len(levels), device=levels.device, dtype=torch.int32) * bins
    codes = levels.int() + LEVELS * mask.clamp(max=2).int() + start[:, None, None]
    # Not `bincount`, for which a GPU stops to tell the host its largest value.
    counts = torch.zeros(len(levels) * bins, dtype=torch.int32, device=levels.device)
    ones = counts.new_ones(1).expand(codes.numel())
    return counts.index_add_(0, codes.flatten(), ones).view(-1, 3, LEVELS)[:, :2]


def _at_least(histogram: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positives (..., 256) in float64 at each threshold k / 256."""
    tail = histogram.cpu().double().flip(-1).cumsum(-1).flip(-1)
    return tail[..., 0, :], tail[..., 1, :]


def jaccard_by_threshold(histogram: Tensor) -> Tensor:
    """Hard Jaccard TP / (TP + FP + FN) of the foreground at the thresholds 0, 1/256, ... 255/256.

    Args:
        histogram: pixels by truth and level (2, 256), or several such (..., 2, 256).

    Returns:
        float64 (..., 256) on the CPU; NaN where there is neither true nor predicted foreground.
    """
    false, true = _at_least(histogram)
    return true / (true[..., :1] + false)  # TP + FN is what threshold 0 finds


def pr_curve(histogram: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall of the foreground at the thresholds 0, 1/256, ... 255/256.

    Args:
        histogram: pixels by truth and level (..., 2, 256).

    Returns:
        float64 (..., 256) each, on the CPU; precision is NaN where nothing is predicted, recall
        where there is no foreground.
    """
    false, true = _at_least(histogram)
    return true / (true + false), true / true[..., :1]


def best_threshold(histogram: Tensor) -> float:
    """The threshold in 1/256 .. 255/256 with the highest hard Jaccard.

    Threshold 0 is no candidate: it would call everything foreground, whatever the network says. Of
    neighbouring thresholds that are equally good the middle one is taken, of several such runs the
    one with its middle nearest to 0.5. Without any true foreground it is 0.5.

    Args:
        histogram: pixels by truth and level (2, 256).
    """
    if not histogram[1].any():
        return 0.5
    jaccard = jaccard_by_threshold(histogram).tolist()
    best = max(jaccard[1:])
    runs: list[list[int]] = []
    for k in range(1, LEVELS):
        if jaccard[k] == best:
            if runs and runs[-1][-1] == k - 1:
                runs[-1].append(k)
            else:
                runs.append([k])
    centre = LEVELS // 2
    middles = [run[i] for run in runs for i in ((len(run) - 1) // 2, len(run) // 2)]
    return min(middles, key=lambda k: abs(k - centre)) / LEVELS


class PixelScores(Metric):
    """What all scores of pixels follow from, summed over the whole set.

    ``compute`` returns ``histogram``, int64 (2, 256), pixels by truth and level, and
    ``soft_jaccard``, a scalar: (I + 1) / (P + T - I + 1) with I the sum of p t, P of p and T of t
    over the labelled pixels of all images. Beware: to call everything foreground scores the
    foreground's share there. NaN without labelled pixels.

    Void pixels are left out. ``images`` keeps the histograms of this process's own images.
    """

    full_state_update = False
    histogram: Tensor
    soft: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Apple's GPUs have no float64.
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        counts = torch.zeros(2, LEVELS, dtype=torch.int64)
        self.add_state("histogram", counts, dist_reduce_fx="sum")
        self.add_state("soft", torch.zeros(2, dtype=exact), dist_reduce_fx="sum")
        self.images: list[Tensor] = []

    def update(self, probabilities: Tensor, mask: Tensor) -> None:
        """Add images.

        Args:
            probabilities: of the foreground, float (B, H, W) in [0, 1].
            mask: uint8 (B, H, W), 0, 1 or `VOID`.
        """
        found = image_histograms(quantise(probabilities), mask)
        self.images.append(found)
        self.histogram = self.histogram + found.sum(0, dtype=torch.int64)
        p = torch.where(mask == VOID, 0, probabilities)
        hits = torch.where(mask == 1, probabilities, 0)
        sums = [x.sum(dtype=self.soft.dtype) for x in (hits, p)]
        self.soft = self.soft + torch.stack(sums)

    def compute(self) -> dict[str, Tensor]:
        """The histogram and the soft Jaccard of all images so far."""
        hits, p = self.soft
        truth = self.histogram[1].sum()
        soft = (hits + 1) / (p + truth - hits + 1)
        known = self.histogram.any()
        return {
            "histogram": self.histogram,
            "soft_jaccard": torch.where(known, soft, torch.nan),
        }

    def image_dice(self, threshold: float) -> Tensor:
        """Hard Dice (B,) in float64 of each own image that has labelled pixels, on the CPU.

        An image with neither true nor predicted foreground scores 1.
        """
        if not self.images:
            return torch.zeros(0, dtype=torch.float64)
        histograms = torch.cat(self.images).cpu()
        false, true = _at_least(histograms)
        k = level(threshold)
        size = true[:, 0] + true[:, k] + false[:, k]
        dice = torch.where(size > 0, 2 * true[:, k] / size.clamp(min=1), 1.0)
        return dice[histograms.any(-1).any(-1)]

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.images = []


class ObjectScores(Metric):
    """How many objects are found, and how many of them are true ones, summed over the whole set.

    An object is found if an object of the prediction has an IoU above 0.5 with it. ``compute``
    returns scalars: ``objects`` and ``true_objects``, mean numbers per image; ``count_error``, the
    mean over images of the absolute difference of the two; ``object_f1``, the F1 of all objects of
    all images together. NaN without images, or without any object. float64, on the CPU.

    ``counts`` keeps the numbers of this process's own images.

    Args:
        min_area: see `segmentation.objects.split_objects`.
        min_distance: likewise.
    """

    full_state_update = False
    true_positives: Tensor
    predicted: Tensor
    true: Tensor
    error: Tensor
    images: Tensor

    def __init__(self, min_area: int, min_distance: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_area = min_area
        self.min_distance = min_distance
        for name in ("true_positives", "predicted", "true", "error", "images"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        self.counts: Counts = []

    def update(self, foreground: Iterable[Tensor], instances: Iterable[Tensor]) -> None:
        """Add images, which are on the CPU.

        Args:
            foreground: predicted, each bool (H, W), void pixels False.
            instances: true objects, each int (H, W), 0 = none, void pixels 0.
        """
        matches = self.match(foreground, instances)
        counts = [(match.predicted, match.true) for match in matches]
        hits = sum(match.true_positives for match in matches)
        self.true_positives = self.true_positives + hits
        self.predicted = self.predicted + sum(predicted for predicted, _ in counts)
        self.true = self.true + sum(true for _, true in counts)
        self.error = self.error + sum(abs(predicted - true) for predicted, true in counts)
        self.images = self.images + len(counts)
        self.counts += counts

    def match(self, foreground: Iterable[Tensor], instances: Iterable[Tensor]) -> list[Matches]:
        """The objects of images, matched; see `update`. The scores do not change."""
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            return list(pool.map(self._match, foreground, instances))

    def _match(self, foreground: Tensor, instances: Tensor) -> Matches:
        found = split_objects(
            foreground.numpy(), min_area=self.min_area, min_distance=self.min_distance
        )
        return match_objects(found, instances.numpy())

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far."""
        states = (self.true_positives, self.predicted, self.true, self.error, self.images)
        hits, predicted, true, error, images = (state.cpu().double() for state in states)
        return {
            "objects": predicted / images,
            "true_objects": true / images,
            "count_error": error / images,
            "object_f1": 2 * hits / (predicted + true),
        }

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.counts = []


class SegmentationScores(nn.Module):
    """All scores of a split, at a threshold that validation chooses.

    Attributes:
        threshold: float32 buffer, a multiple of 1/256; checkpoints carry it.
        histogram: int64 (2, 256) on the CPU, of the last `compute`.
        counts: per image the predicted and the true number of objects, of the last `compute`, all
            ranks' images in no particular order.

    Args:
        threshold: ``auto``: what `compute` last chose, 0.5 before; a number is rounded to 1/256.
        objects: whether to form and match objects. It takes time, and keeps a byte per pixel and
            the true objects in memory until `reset`.
        min_area: see `segmentation.objects.split_objects`.
        min_distance: likewise.
    """

    threshold: Tensor

    def __init__(
        self,
        threshold: float | Literal["auto"],
        objects: bool,
        min_area: int,
        min_distance: int,
    ) -> None:
        super().__init__()
        self.auto = threshold == "auto"
        start = 0.5 if threshold == "auto" else level(threshold) / LEVELS
        self.register_buffer("threshold", torch.tensor(start))
        self._shared = True
        options = {"distributed_available_fn": self._is_shared, "compute_with_cache": False}
        self.pixels = PixelScores(**options)
        self.dice = MeanMetric(nan_strategy="disable", **options)
        self.objects = ObjectScores(min_area, min_distance, **options) if objects else None
        self._levels: list[Tensor] = []
        self._instances: list[Tensor] = []
        self.histogram = torch.zeros(2, LEVELS, dtype=torch.int64)
        self.counts: Counts = []

    def _is_shared(self) -> bool:
        return self._shared and dist.is_available() and dist.is_initialized()

    def update(self, probabilities: Tensor, mask: Tensor, instances: Tensor | None = None) -> None:
        """Add images.

        Args:
            probabilities: of the foreground, float (B, H, W) in [0, 1].
            mask: uint8 (B, H, W), 0, 1 or `VOID`.
            instances: true objects, int (B, H, W), 0 = none; only looked at with ``objects``.

        Raises:
            ValueError: no ``instances``, with ``objects``.
        """
        self.pixels.update(probabilities, mask)
        if self.objects is None:
            return
        if instances is None:
            raise ValueError("scores of objects need the true ones")
        void = mask == VOID
        known = ~void.flatten(1).all(1)
        # Level 0 is below every threshold, so void pixels form no objects.
        levels = quantise(probabilities).masked_fill(void, 0)
        self._levels += levels[known].cpu()
        self._instances += instances.masked_fill(void, 0)[known].cpu()

    def compute(self, choose: bool, *, sync: bool = True) -> Scores:
        """The scores of all images so far, as fractions; undefined ones are NaN.

        Pixels of the whole set together: ``jaccard``, ``dice``, ``precision`` and ``recall`` of
        the foreground, ``soft_jaccard`` (see `PixelScores`). Jaccard and Dice are NaN where there
        is neither true nor predicted foreground, precision without the latter, recall without the
        former. ``image_dice``: mean over images with labelled pixels, 1 where neither is.
        ``threshold``: at which all this holds. With objects also ``objects``, ``count_error`` and
        ``object_f1`` (see `ObjectScores`). Of the truth itself: ``truth/foreground``, the share of
        labelled pixels, and ``truth/objects``, the mean number per image.

        Args:
            choose: with ``auto``, set the threshold to the best one for these images, of all ranks
                together.
            sync: whether the ranks' images count together; then every rank must call this.
        """
        self._shared = sync
        found = self.pixels.compute()
        self.histogram = found["histogram"].cpu()
        if choose and self.auto:
            self.threshold.fill_(best_threshold(self.histogram))
        scores = _pixel_scores(self.histogram, level(float(self.threshold)))
        scores["soft_jaccard"] = float(found["soft_jaccard"])
        scores["image_dice"] = self._image_dice()
        scores["threshold"] = float(self.threshold)
        return scores | self._object_scores()

    def _image_dice(self) -> float:
        self.dice.reset()
        self.dice.update(self.pixels.image_dice(float(self.threshold)).float())
        return float(self.dice.compute())

    def _object_scores(self) -> Scores:
        if self.objects is None:
            return {}
        self.objects.reset()
        k = level(float(self.threshold))
        self.objects.update([levels >= k for levels in self._levels], self._instances)
        self.counts = self._gather(self.objects.counts)
        scores = {name: float(value) for name, value in self.objects.compute().items()}
        scores["truth/objects"] = scores.pop("true_objects")
        return scores

    def _gather(self, own: Counts) -> Counts:
        if not self._is_shared():
            return own
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, own)
        return [pair for counts in everyone for pair in counts]

    def reset(self) -> None:
        """Forget all images, but not the threshold, the histogram and the counts."""
        self.pixels.reset()
        self.dice.reset()
        if self.objects is not None:
            self.objects.reset()
        self._levels, self._instances = [], []


def _pixel_scores(histogram: Tensor, k: int) -> Scores:
    precision, recall = pr_curve(histogram)
    jaccard = float(jaccard_by_threshold(histogram)[k])
    labelled = int(histogram.sum())
    return {
        "jaccard": jaccard,
        "dice": 2 * jaccard / (1 + jaccard),
        "precision": float(precision[k]),
        "recall": float(recall[k]),
        "truth/foreground": int(histogram[1].sum()) / labelled if labelled else math.nan,
    }

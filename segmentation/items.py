"""Scores of single images, and the metrics of a split from the counts of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasewise.analysis.items import Floats, Items, mean, ratio
from phasewise.data.batch import Batch
from segmentation.metrics import VOID, SegmentationScores, image_histograms, level, quantise
from segmentation.objects import Matches


class Seen(NamedTuple):
    """What is kept of a batch: pixels by truth and level (B, 2, 256), sums of p t and of p (B, 2);
    of objects the number predicted, true and matched (B, 3), NaN where they are not looked at."""

    rows: Tensor
    histograms: Tensor
    soft: Tensor
    objects: Tensor


def observe(metrics: SegmentationScores, probabilities: Tensor, batch: Batch) -> Seen:
    """See `Seen`; objects are formed at the metrics' threshold."""
    mask = batch["mask"]
    levels, void = quantise(probabilities), mask == VOID
    exact = torch.float32 if probabilities.device.type == "mps" else torch.float64
    sums = [torch.where(mask == 1, probabilities, 0), torch.where(void, 0, probabilities)]
    objects = torch.full((len(mask), 3), torch.nan)
    if metrics.objects is not None:
        found = (levels >= level(float(metrics.threshold))) & ~void
        true = batch["instances"].masked_fill(void, 0)
        known = (~void.flatten(1).all(1)).nonzero().flatten()
        matches = metrics.objects.match(found[known].cpu(), true[known].cpu())
        objects[known.cpu()] = torch.tensor([_counts(it) for it in matches]).view(-1, 3).float()
    return Seen(
        batch["index"].cpu(),
        image_histograms(levels, mask).cpu(),
        torch.stack([part.sum((1, 2), dtype=exact) for part in sums], 1).cpu(),
        objects,
    )


def _counts(match: Matches) -> list[float]:
    return [match.predicted, match.true, match.true_positives]


def make_items(observed: Sequence[Seen], threshold: float) -> Items:
    """Images with labelled pixels are items; see `phasewise.analysis.items.Items`.

    Metrics have the names of `SegmentationScores.compute`, whose docstring defines them.
    """
    rows, histograms, soft, objects = (
        torch.cat(part).numpy() for part in zip(*observed, strict=True)
    )
    labelled = histograms.sum((1, 2)) > 0
    rows, soft, objects = rows[labelled], soft[labelled], objects[labelled].astype(float)
    pixels = histograms[labelled].astype(float)
    tail = pixels[:, :, level(threshold) :].sum(2)
    false, true = tail[:, 0], tail[:, 1]
    foreground, total = pixels[:, 1].sum(1), pixels.sum((1, 2))
    found = true + false
    dice = np.where(found + foreground > 0, 2 * true / np.maximum(found + foreground, 1), 1.0)
    predicted, real, matched = objects.T
    error = np.abs(predicted - real)

    def figures(weights: Floats) -> dict[str, Floats]:
        tp, fp, fg, labels = (weights @ it for it in (true, false, foreground, total))
        hits, p = (weights @ it for it in soft.T)
        jaccard = ratio(tp, fg + fp)
        scores = {
            "jaccard": jaccard,
            "dice": 2 * jaccard / (1 + jaccard),
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, fg),
            "truth/foreground": ratio(fg, labels),
            "soft_jaccard": (hits + 1) / (p + fg - hits + 1),
            "image_dice": mean(weights, dice),
        }
        if not np.isnan(predicted).all():
            scores |= {
                "objects": mean(weights, predicted),
                "truth/objects": mean(weights, real),
                "count_error": mean(weights, error),
                "object_f1": ratio(2 * (weights @ matched), weights @ (predicted + real)),
            }
        return scores

    scores = {
        "dice": dice,
        "jaccard": dice / (2 - dice),
        "precision": ratio(true, found),
        "recall": ratio(true, foreground),
    }
    if not np.isnan(predicted).all():
        scores |= {"objects": predicted, "true_objects": real, "matched_objects": matched}
    return Items("images", rows, scores, figures)

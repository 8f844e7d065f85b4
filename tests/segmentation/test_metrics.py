from __future__ import annotations

import copy
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from skimage.measure import label
from torch import Tensor
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
)

from segmentation.metrics import (
    LEVELS,
    VOID,
    ObjectScores,
    PixelScores,
    SegmentationScores,
    best_threshold,
    image_histograms,
    jaccard_by_threshold,
    level,
    pr_curve,
    quantise,
)
from tests.ranks import together

Batch = tuple[Tensor, Tensor, Tensor]

PIXEL_NAMES = {
    "jaccard",
    "dice",
    "image_dice",
    "soft_jaccard",
    "precision",
    "recall",
    "threshold",
    "truth/foreground",
}
OBJECT_NAMES = {"objects", "count_error", "object_f1", "truth/objects"}


def _scores(
    threshold: float | Literal["auto"] = "auto", objects: bool = True, min_area: int = 4
) -> SegmentationScores:
    return SegmentationScores(threshold, objects, min_area=min_area, min_distance=2)


def _batch(seed: int, images: int = 5, size: int = 24, void: float = 0.15) -> Batch:
    """Squares of 3 x 3 on a grid, probabilities that tell some of them, and void pixels."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(images, 4, 4, generator=generator)
    truth = torch.zeros(images, size, size, dtype=torch.uint8)
    instances = torch.zeros(images, size, size, dtype=torch.int16)
    probabilities = 0.3 * torch.rand(images, size, size, generator=generator)
    for i, row, column in cells.nonzero().tolist():
        square = (i, slice(6 * row + 1, 6 * row + 4), slice(6 * column + 1, 6 * column + 4))
        if cells[i, row, column] < 0.5:
            truth[square] = 1
            instances[square] = 4 * row + column + 3
        if cells[i, row, column] < 0.4 or cells[i, row, column] > 0.9:
            probabilities[square] += 0.35
    hidden = torch.rand(truth.shape, generator=generator) < void
    truth[hidden] = VOID
    return probabilities, truth, instances


def _compute(metrics: SegmentationScores, *batches: Batch, choose: bool = False) -> dict:
    for batch in batches:
        metrics.update(*batch)
    return metrics.compute(choose)


def _hard(batch: Batch, predicted: float) -> Batch:
    """The same truth, and the same probability everywhere."""
    return torch.full_like(batch[0], predicted), *batch[1:]


# Levels and histograms


def test_levels_and_thresholds_agree_exactly() -> None:
    edges = torch.arange(LEVELS + 1, dtype=torch.float32) / LEVELS
    near = [edges, torch.nextafter(edges, torch.tensor(-1.0)), torch.nextafter(edges, edges + 1)]
    p = torch.cat([*near, torch.rand(10000)]).clamp(0, 1)
    levels = quantise(p)
    assert levels.dtype == torch.uint8
    for k in range(1, LEVELS):
        assert torch.equal(levels >= k, p >= torch.tensor(k / LEVELS))
    assert quantise(torch.tensor([math.nan, 1.0, 0.0])).tolist() == [0, 255, 0]
    assert [level(x) for x in (0.0, 0.001, 0.3, 0.5, 0.999, 1.0)] == [1, 1, 77, 128, 255, 255]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_image_histograms_against_numpy(dtype: torch.dtype) -> None:
    probabilities, mask, _ = _batch(0)
    found = image_histograms(quantise(probabilities), mask.to(dtype))
    assert found.dtype == torch.int32
    edges = np.arange(LEVELS + 1) / LEVELS
    for i, truth in ((i, t) for i in range(5) for t in (0, 1)):
        wanted, _ = np.histogram(probabilities[i][mask[i] == truth].numpy(), edges)
        assert found[i, truth].tolist() == wanted.tolist()
    assert image_histograms(quantise(probabilities[:0]), mask[:0]).shape == (0, 2, LEVELS)


def _histogram(seed: int, pixels: int = 500) -> tuple[Tensor, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.random(pixels) < 0.3
    levels = (draw.beta(2, 3, pixels) * 200 + 56 * truth * draw.random(pixels)).astype(int)
    histogram = np.stack([np.bincount(levels[truth == t], minlength=LEVELS) for t in (0, 1)])
    return torch.from_numpy(histogram), truth, levels


def _by_hand(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    """Jaccard, precision, recall."""
    both = float((truth & predicted).sum())
    with np.errstate(invalid="ignore"):
        return tuple(  # type: ignore[return-value]
            both / np.float64(x.sum()) for x in (truth | predicted, predicted, truth)
        )


@pytest.mark.parametrize("seed", range(3))
def test_curves_against_a_loop(seed: int) -> None:
    histogram, truth, levels = _histogram(seed)
    wanted = np.array([_by_hand(truth, levels >= k) for k in range(LEVELS)])
    found = torch.stack([jaccard_by_threshold(histogram), *pr_curve(histogram)], 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.isnan(wanted[-1, 1])  # nothing is as sure as that
    assert not np.isnan(wanted[:, 0]).any()
    threshold = best_threshold(histogram)
    assert wanted[int(threshold * LEVELS), 0] == wanted[1:, 0].max()


def test_curves_without_anything() -> None:
    empty = torch.zeros(2, LEVELS, dtype=torch.int64)
    for values in (jaccard_by_threshold(empty), *pr_curve(empty)):
        assert values.shape == (LEVELS,)
        assert values.isnan().all()
    stacked = jaccard_by_threshold(torch.stack([empty, _histogram(0)[0]]))
    assert torch.equal(stacked[1], jaccard_by_threshold(_histogram(0)[0]))


def _levels(background: list[int], foreground: list[int]) -> Tensor:
    levels = (background, foreground)
    return torch.stack([torch.tensor(x).long().bincount(minlength=LEVELS) for x in levels])


@pytest.mark.parametrize(
    ("background", "foreground", "wanted"),
    [
        ([0], [255], 128),  # 1..255 are equal
        ([10], [20], 16),  # 11..20: two middles, the one nearer to .5
        ([200], [211], 206),  # 201..211
        ([200], [210], 205),  # 201..210
        ([255], [255], 128),  # 1..255: half is right, always
        ([0], [255, 0], 128),
        ([0], [0], 128),  # all but nothing predicted: 0 at 1..255
        ([0, 30], [], 128),  # no foreground
        ([], [], 128),
        ([], [40], 21),  # 1..40
        # 2 of 4 at 1..100, 1 of 3 up to 200, 1 of 2 at 201..220: the first is nearer.
        ([100, 200], [100, 220], 51),
        # 2 of 4 at 1..10, 1 of 3 up to 100, 1 of 2 at 101..110: the second is nearer.
        ([10, 100], [10, 110], 106),
    ],
)
def test_the_best_threshold_of_a_plateau(
    background: list[int], foreground: list[int], wanted: int
) -> None:
    histogram = _levels(background, foreground)
    assert best_threshold(histogram) * LEVELS == wanted


# Pixels


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.55])
def test_against_torchmetrics(threshold: float) -> None:
    batches = [_batch(seed, images) for seed, images in ((0, 5), (1, 1), (2, 3))]
    found = _compute(_scores(threshold, objects=False), *batches)
    p, truth = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    for name, metric in {
        "jaccard": BinaryJaccardIndex(ignore_index=VOID),
        "dice": BinaryF1Score(ignore_index=VOID),
        "precision": BinaryPrecision(ignore_index=VOID),
        "recall": BinaryRecall(ignore_index=VOID),
    }.items():
        wanted = metric((p >= round(threshold * LEVELS) / LEVELS).int(), truth.int())
        assert found[name] == pytest.approx(wanted.item(), rel=1e-6), name
        assert 0.1 < found[name] < 0.98
    assert found["threshold"] == round(threshold * LEVELS) / LEVELS
    assert found["truth/foreground"] == (truth == 1).sum() / (truth != VOID).sum()
    assert set(found) == PIXEL_NAMES


def test_image_dice_and_soft_jaccard_against_numpy() -> None:
    batches = [_batch(0), _batch(1, 3)]
    batches[1][1][0] = VOID  # this image does not count
    batches[1][1][1][batches[1][1][1] == 1] = 0  # nothing there, something found
    batches[1][1][2][batches[1][1][2] == 1] = 0
    batches[1][0][2] = 0.1  # nothing there, nothing found: 1
    found = _compute(_scores(0.5, objects=False), *batches)
    dice, sums = [], np.zeros(3)
    for p, mask in ((p, mask) for batch in batches for p, mask in zip(*batch[:2], strict=True)):
        known = (mask != VOID).numpy()
        soft, truth = p.numpy()[known].astype(float), mask.numpy()[known] == 1
        sums += (soft * truth).sum(), soft.sum(), truth.sum()
        guess = soft >= 0.5
        size = guess.sum() + truth.sum()
        if known.any():
            dice.append(2 * (guess & truth).sum() / size if size else 1.0)
    assert dice[-2:] == [0, 1]
    assert len(dice) == 7
    assert found["image_dice"] == pytest.approx(np.mean(dice), rel=1e-6)
    hits, p, t = sums
    assert found["soft_jaccard"] == pytest.approx((hits + 1) / (p + t - hits + 1), rel=1e-6)


def test_the_set_counts_as_one_image() -> None:
    """1 of 1 pixels in one image and 0 of 9 in another are 1 of 10; their mean Dice is .5."""
    mask = torch.full((2, 3, 3), VOID, dtype=torch.uint8)
    mask[0, 0, 0] = 1
    mask[1] = 1
    p = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 3, 3)
    found = _compute(_scores(objects=False), (p, mask, mask))
    assert found["jaccard"] == pytest.approx(0.1)
    assert found["dice"] == pytest.approx(2 / 11)
    assert found["image_dice"] == 0.5


def test_soft_jaccard_rewards_calling_everything_foreground() -> None:
    batch = _batch(0, void=0)
    found = _compute(_scores(), _hard(batch, 1.0))
    fraction = (batch[1] == 1).float().mean().item()
    assert found["soft_jaccard"] == pytest.approx(fraction, rel=0.01)  # but for the smoothing
    assert found["jaccard"] == pytest.approx(fraction) == found["truth/foreground"]
    assert (found["recall"], found["objects"], found["object_f1"]) == (1, 1, 0)
    # At half the probability hard scores do not change, the soft one does.
    half = _compute(_scores(), _hard(batch, 0.5))
    assert half["jaccard"] == found["jaccard"]
    assert half["soft_jaccard"] < 0.9 * found["soft_jaccard"]


@pytest.mark.parametrize("threshold", ["auto", 0.2])
def test_a_perfect_prediction(threshold: Any) -> None:
    batch = _batch(0, void=0)
    perfect = (batch[1].float(), *batch[1:])
    found = _compute(_scores(threshold), perfect, choose=True)
    ones = ("jaccard", "dice", "image_dice", "precision", "recall", "object_f1", "soft_jaccard")
    assert {name: found[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert found["count_error"] == 0
    assert found["objects"] == found["truth/objects"] > 2
    assert found["threshold"] == (0.5 if threshold == "auto" else 51 / 256)
    assert set(found) == PIXEL_NAMES | OBJECT_NAMES


def test_an_empty_prediction() -> None:
    found = _compute(_scores(), _hard(_batch(0), 0.0))
    zeros = ("jaccard", "dice", "image_dice", "recall", "object_f1", "objects")
    assert {name: found[name] for name in zeros} == dict.fromkeys(zeros, 0.0)
    assert math.isnan(found["precision"])
    assert found["count_error"] == found["truth/objects"]


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_set_without_foreground(p: float) -> None:
    batch = (torch.full((2, 6, 6), p), torch.zeros(2, 6, 6, dtype=torch.uint8))
    found = _compute(_scores(), (*batch, batch[1].short()), choose=True)
    undefined = {name for name, value in found.items() if math.isnan(value)}
    if p:  # wrong, and that can be said
        assert undefined == {"recall"}
        assert found["jaccard"] == found["dice"] == found["precision"] == 0
        assert found["image_dice"] == found["object_f1"] == 0
        assert found["count_error"] == 1
    else:
        assert undefined == {"jaccard", "dice", "precision", "recall", "object_f1"}
        assert found["image_dice"] == found["soft_jaccard"] == 1
        assert found["count_error"] == 0
    assert found["threshold"] == 0.5


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("images", [0, 2, None])
def test_void_alone_is_undefined(images: int | None) -> None:
    metrics = _scores()
    if images is not None:
        mask = torch.full((images, 6, 6), VOID, dtype=torch.uint8)
        metrics.update(torch.ones(images, 6, 6), mask, torch.ones(images, 6, 6).int())
    found = metrics.compute(choose=True)
    assert {name for name, value in found.items() if not math.isnan(value)} == {"threshold"}
    assert metrics.counts == []


def test_nan_probabilities_show_in_the_soft_jaccard() -> None:
    found = _compute(_scores(), _hard(_batch(0), math.nan))
    assert math.isnan(found["soft_jaccard"])
    assert found["jaccard"] == 0


def test_half_precision_loses_nothing() -> None:
    batch = _batch(0)
    p = batch[0].bfloat16()
    found = _compute(_scores(), (p, *batch[1:]))
    assert found == pytest.approx(_compute(_scores(), (p.float(), *batch[1:])))


# The threshold


def test_the_threshold_is_chosen_only_when_asked_and_kept() -> None:
    batch = _batch(0)
    metrics = _scores()
    before = _compute(metrics, batch)
    assert before["threshold"] == metrics.threshold == 0.5
    after = metrics.compute(choose=True)
    best = max(
        (_compute(_scores(k / LEVELS, objects=False), batch)["jaccard"], k)
        for k in range(1, LEVELS)
    )
    assert after["jaccard"] == best[0] > before["jaccard"]
    assert after["threshold"] == metrics.threshold.item() == best_threshold(metrics.histogram)
    metrics.reset()
    assert metrics.threshold == after["threshold"]
    assert _compute(metrics, _batch(1))["threshold"] == after["threshold"]
    assert metrics.state_dict().keys() == {"threshold"}
    other = _scores()
    other.load_state_dict(metrics.state_dict())
    assert _compute(other, batch) == after


def test_a_given_threshold_is_never_chosen() -> None:
    assert _compute(_scores(0.75), _batch(0), choose=True)["threshold"] == 0.75


def test_chosen_in_inference_mode_and_used_outside() -> None:
    """Lightning validates in inference mode; figures are drawn without it."""
    metrics = _scores()
    with torch.inference_mode():
        chosen = _compute(metrics, _batch(0), choose=True)
        metrics.reset()
    assert _compute(metrics, _batch(0)) == chosen
    copy.deepcopy(metrics)


def test_a_new_start() -> None:
    metrics = _scores()
    first = _compute(metrics, _batch(0))
    metrics.reset()
    assert _compute(metrics, _batch(1)) != first
    metrics.reset()
    assert _compute(metrics, _batch(0)) == first
    assert metrics.compute(choose=False) == first
    assert int(metrics.histogram.sum()) == (_batch(0)[1] != VOID).sum()


# Objects


def test_objects_by_hand() -> None:
    """Of three squares one is found, one found in part, one missed; and one is invented."""
    instances = torch.zeros(2, 20, 20, dtype=torch.int32)
    for i, corner in enumerate((2, 8, 14)):
        instances[0, corner : corner + 4, 2:6] = i + 1
    mask = (instances > 0).to(torch.uint8)
    p = torch.zeros(2, 20, 20)
    p[0, 2:6, 2:6] = 0.9
    p[0, 8:12, 2:4] = 0.9  # IoU is .5
    p[0, 2:6, 12:16] = 0.9
    p[1, 2:6, 12:16] = 0.3
    p[1, 2:4, 2] = 0.9  # too small
    metrics = _scores(0.5)
    found = _compute(metrics, (p, mask, instances))
    assert found["object_f1"] == pytest.approx(2 * 1 / (3 + 3))
    assert found["objects"] == found["truth/objects"] == 1.5
    assert found["count_error"] == 0
    assert metrics.counts == [(3, 3), (0, 0)]
    lower = _compute(_scores(0.25), (p, mask, instances))
    assert lower["object_f1"] == pytest.approx(2 * 1 / (4 + 3))
    assert lower["objects"] == 2
    assert lower["count_error"] == 0.5


def test_objects_against_connected_components() -> None:
    """Squares apart from each other: what is split is what `skimage.measure.label` finds."""
    batch = _batch(3, 6, void=0)
    metrics = _scores(0.34)
    found = _compute(metrics, batch)
    hits, counts = 0, []
    for p, _, instances in zip(*(x.numpy() for x in batch), strict=True):
        guess = label(p >= 0.34)
        truth = label(instances > 0)
        counts.append((guess.max(), truth.max()))
        for i in range(1, guess.max() + 1):
            for j in range(1, truth.max() + 1):
                a, b = guess == i, truth == j
                hits += (a & b).sum() / (a | b).sum() > 0.5
    predicted, true = np.array(counts).T
    assert metrics.counts == counts
    assert found["object_f1"] == 2 * hits / (predicted.sum() + true.sum())
    assert found["count_error"] == pytest.approx(np.abs(predicted - true).mean())
    assert 0.3 < found["object_f1"] < 0.95


def test_void_forms_no_objects() -> None:
    instances = torch.zeros(1, 20, 20, dtype=torch.int16)
    instances[0, 2:6, 2:6] = 1
    mask = (instances > 0).to(torch.uint8)
    instances[0, 10:16, 10:16] = 2
    mask[0, 8:18, 8:18] = VOID
    p = torch.zeros(1, 20, 20)
    p[0, 2:6, 2:6] = p[0, 9:13, 9:13] = 1
    metrics = _scores(1 / LEVELS)
    assert _compute(metrics, (p, mask, instances))["object_f1"] == 1
    assert metrics.counts == [(1, 1)]


def test_objects_need_their_truth() -> None:
    p, mask, _ = _batch(0)
    with pytest.raises(ValueError, match="true ones"):
        _scores().update(p, mask)
    assert set(_compute(_scores(objects=False), (p, mask, None))) == PIXEL_NAMES  # type: ignore[arg-type]


def test_object_scores_alone() -> None:
    metric = ObjectScores(min_area=4, min_distance=2)
    truth = _batch(0, 3)[2].int()
    metric.update(truth > 0, truth)
    assert metric.compute()["object_f1"] == 1
    assert len(metric.counts) == 3
    metric.reset()
    metric.update(truth[:0] > 0, truth[:0])
    assert all(value.isnan() for value in metric.compute().values())


def test_counts_are_exact_where_float32_is_not() -> None:
    """2**24 + 1 pixels of one level."""
    metric = PixelScores()
    metric.update(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.uint8))
    metric.histogram[1, 255] += 2**24
    assert metric.compute()["histogram"].sum() == 2**24 + 1
    metric.soft += 2**24
    assert torch.backends.mps.is_available() or metric.soft.tolist() == [2**24 + 1] * 2


# Several processes

SHARDS = {"unequal": ([0, 1], [2]), "empty": ([0, 1, 2], [])}


def _part(seed: int) -> Batch:
    return _batch(seed, images=2 + seed)


def _rank(index: int) -> dict[str, list]:
    results = {}
    for name, shards in SHARDS.items():
        metrics = _scores()
        found = _compute(metrics, *map(_part, shards[index]), choose=True)
        again = metrics.compute(choose=False)
        state: list = [found, again, metrics.histogram.tolist(), sorted(metrics.counts)]
        if not index:  # the other process does not take part
            state.append(metrics.compute(choose=False, sync=False))
        metrics.reset()
        state.append(_compute(metrics, *map(_part, shards[1 - index])))
        results[name] = state
    return results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_ranks_together_are_one_process() -> None:
    results = together(_rank)
    alone = _scores()
    wanted = _compute(alone, *map(_part, range(3)), choose=True)
    for name, shards in SHARDS.items():
        for index in range(2):
            found, again, histogram, counts, *local, swapped = results[index][name]
            assert found == again == swapped == pytest.approx(wanted, rel=1e-6)
            assert found["threshold"] == wanted["threshold"] != 0.5
            assert histogram == alone.histogram.tolist()
            assert counts == sorted(alone.counts)
            if local:
                own = _scores(wanted["threshold"])
                mine = _compute(own, *map(_part, shards[index]))
                assert local == [pytest.approx(mine, rel=1e-6)]

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor

from phasewise.data.listed import Splits
from phasewise.data.store import Store
from phasewise.records.baselines import rivals
from segmentation import baselines as module
from segmentation.baselines import (
    all_background,
    all_foreground,
    baselines,
    otsu,
    otsu_mask,
    perfect_mask,
)
from segmentation.metrics import VOID, SegmentationScores

SIZE = 24
SQUARES = [(2, 2), (2, 14), (14, 8)]


class _Data:
    """As much of a data module as baselines look at."""

    def __init__(self, **stores: Store) -> None:
        self.splits = Splits(["background", "foreground"], stores=stores)

    def evaluated_rows(self, split: str) -> torch.Tensor:
        return torch.arange(len(self.splits.stores[split]))


def _store(seed: int, count: int, *, dark: bool = False, instances: bool = True) -> Store:
    """Up to three squares per image on noise, brighter or darker than it, and void pixels."""
    draw = np.random.default_rng(seed)
    labels = np.zeros((count, SIZE, SIZE), dtype=np.int16)
    for i in range(count):
        for k, (y, x) in enumerate(SQUARES[: draw.integers(1, 4)]):
            labels[i, y : y + 6, x : x + 6] = k + 1
    mask = (labels > 0).astype(np.uint8)
    image = draw.integers(0, 90, (count, 3, SIZE, SIZE)) + 110 * mask[:, None]
    image[:, :, 18:, :6] = 255  # glare
    mask[draw.random(mask.shape) < 0.1] = VOID
    fields = {
        "image": torch.from_numpy((255 - image if dark else image).astype(np.uint8)),
        "mask": torch.from_numpy(mask),
    }
    if instances:
        fields["instances"] = torch.from_numpy(labels)
    return Store(fields)


def _make(objects: bool = True) -> SegmentationScores:
    return SegmentationScores("auto", objects, min_area=8, min_distance=3)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)  # so that splits here take several


def _by_hand(data: _Data, split: str, guess: np.ndarray) -> dict[str, float]:
    mask = data.splits.stores[split]["mask"].numpy()
    known, truth = mask != VOID, mask == 1
    hits, either = (guess & truth).sum(), ((guess & known) | truth).sum()
    dice = [
        2 * (g & t).sum() / ((g & k).sum() + t.sum())
        for g, t, k in zip(guess, truth, known, strict=True)
    ]
    return {
        "jaccard": hits / either,
        "dice": 2 * hits / (hits + either),
        "recall": hits / truth.sum(),
        "image_dice": float(np.mean(dice)),
        "truth/foreground": truth.sum() / known.sum(),
    }


def _agree(scores: dict[str, float], wanted: dict[str, float]) -> None:
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)


def test_constant_predictions_against_numpy() -> None:
    data: Any = _Data(train=_store(0, 4, instances=False), val=_store(1, 7))
    ones = np.ones((7, SIZE, SIZE), dtype=bool)
    everything = all_foreground(data, "val", _make)
    _agree(everything, _by_hand(data, "val", ones))
    assert everything["soft_jaccard"] == pytest.approx(everything["truth/foreground"], rel=0.01)
    assert 0.05 < everything["jaccard"] < 0.3
    nothing = all_background(data, "val", _make)
    _agree(nothing, _by_hand(data, "val", ~ones))
    assert nothing["objects"] == nothing["jaccard"] == 0
    true = data.splits.stores["val"]["instances"].flatten(1).amax(1)
    assert nothing["count_error"] == nothing["truth/objects"] == true.double().mean()


@pytest.mark.parametrize("dark", [False, True])
def test_otsu_against_numpy(dark: bool) -> None:
    data: Any = _Data(train=_store(0, 4, dark=dark, instances=False), val=_store(1, 7, dark=dark))
    store = data.splits.stores["val"]
    guess = []
    for image, mask in zip(store["image"].numpy(), store["mask"].numpy(), strict=True):
        weights = np.array([0.299, 0.587, 0.114])
        luma = np.round(np.einsum("c,chw->hw", weights, image)).astype(int)
        limit = threshold_otsu(luma[mask != VOID])
        guess.append(luma <= limit if dark else luma > limit)
    scores = otsu(data, "val", _make)
    _agree(scores, _by_hand(data, "val", np.stack(guess)))
    assert 0.6 < scores["jaccard"] < 1  # all squares, and the glare
    assert 0.7 < scores["object_f1"] < 0.9


def test_a_perfect_mask_merges_what_only_the_files_keep_apart() -> None:
    labels = np.zeros((1, SIZE, SIZE), np.int16)
    labels[0, 4:16, 4:16] = 1
    labels[0, 9:12, 9:12] = 2  # within the first one
    fields = {
        "image": torch.zeros((1, 3, SIZE, SIZE), dtype=torch.uint8),
        "mask": torch.from_numpy((labels > 0).astype(np.uint8)),
        "instances": torch.from_numpy(labels),
    }
    data: Any = _Data(train=Store(fields), val=Store(fields))
    # one found, two true, and one of them is matched (135 of 144 pixels)
    expected = {"object_f1": 2 / 3, "count_error": 1, "objects": 1}
    assert perfect_mask(data, "val", _make) == pytest.approx(expected)


def test_the_polarity_is_learned_from_the_training_split() -> None:
    train = _store(0, 4, dark=True, instances=False)
    data: Any = _Data(train=train, val=_store(1, 7))
    assert otsu(data, "val", _make)["jaccard"] < 0.1


def test_polarity_without_training_truth() -> None:
    """Nothing to learn from: bright."""
    train = _store(0, 4, dark=True, instances=False)
    train["mask"][:] = VOID
    data: Any = _Data(train=train, val=_store(1, 7))
    assert otsu(data, "val", _make)["jaccard"] > 0.6


@pytest.mark.parametrize("dark", [False, True])
def test_images_of_one_value_have_no_objects(dark: bool) -> None:
    batch = {
        "image": torch.full((3, 3, 8, 8), 77, dtype=torch.uint8),
        "mask": torch.zeros(3, 8, 8, dtype=torch.uint8),
    }
    batch["image"][1, :, 0] = 200  # only void pixels differ
    batch["mask"][1, 0] = VOID
    batch["mask"][2] = VOID
    assert not otsu_mask(batch, dark=dark).any()


def test_the_border_of_a_letterboxed_image_has_no_say() -> None:
    """Two greys, and a black border larger than both."""
    image = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    image[:, :, :4] = 100
    image[:, :, 1:3, 5:9] = 180
    mask = torch.full((1, 20, 20), VOID, dtype=torch.uint8)
    mask[:, :4] = 0
    assert torch.equal(otsu_mask({"image": image, "mask": mask}, dark=False)[0], image[0, 0] > 150)


def test_all_of_them_by_name() -> None:
    data: Any = _Data(train=_store(0, 4, instances=False), val=_store(1, 7))
    found = baselines(data, "val", _make)
    assert list(found) == ["all_foreground", "all_background", "otsu", "perfect_mask"]
    assert found["otsu"] == otsu(data, "val", _make)
    assert found["otsu"]["jaccard"] > found["all_foreground"]["jaccard"]
    assert {scores["threshold"] for scores in rivals(found).values()} == {0.5}
    assert found["perfect_mask"].keys() == {"objects", "count_error", "object_f1"}
    assert "objects" in found["otsu"]


def test_without_objects() -> None:
    data: Any = _Data(train=_store(0, 4), val=_store(1, 4, instances=False))
    found = baselines(data, "val", lambda: _make(objects=False))
    assert all("objects" not in scores for scores in found.values())
    assert "perfect_mask" not in found
    with pytest.raises(ValueError, match="true ones"):
        baselines(data, "val", _make)


def test_without_truth_the_scores_are_undefined() -> None:
    data: Any = _Data(train=_store(0, 4), val=_store(1, 4))
    data.splits.stores["val"]["mask"][:] = VOID
    for scores in baselines(data, "val", _make).values():
        assert scores.pop("threshold", 0.5) == 0.5
        assert all(math.isnan(value) for value in scores.values())


def _beads(root: Path, split: str, size: int) -> Store:
    fields: dict[str, list[Tensor]] = {"image": [], "mask": [], "instances": []}
    for name in (root / f"{split}.txt").read_text().split():
        image = Image.open(root / "images" / f"{name}.jpg").convert("RGB").resize((size, size))
        labels = np.array(Image.open(root / "instances" / f"{name}.png"))
        labels = labels[:: len(labels) // size, :: len(labels) // size].astype(np.int16)
        fields["image"].append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        fields["mask"].append(torch.from_numpy((labels > 0).astype(np.uint8)))
        fields["instances"].append(torch.from_numpy(labels))
    return Store({name: torch.stack(tensors) for name, tensors in fields.items()})


def test_real_beads(shared_data: Path) -> None:
    """A threshold is better than a constant, and far from good; true masks give true objects."""
    root = shared_data / "beads"
    stores = {split: _beads(root, split, 128) for split in ("train", "test")}
    data: Any = _Data(**stores)
    found = baselines(data, "test", _make)
    jaccard = {name: scores["jaccard"] for name, scores in rivals(found).items()}
    assert 0 == jaccard["all_background"] < jaccard["all_foreground"] < jaccard["otsu"] < 0.5
    perfect = SegmentationScores(0.5, True, min_area=4, min_distance=2)
    test = stores["test"]
    perfect.update(test["mask"].float(), test["mask"], test["instances"])
    assert perfect.compute(choose=False)["object_f1"] > 0.85

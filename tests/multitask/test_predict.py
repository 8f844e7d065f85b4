"""Masks and boxes in the image that somebody took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.errors import UserError
from phasewise.inference.restore import Restored
from tests.predictors import SIZES, Network, drawn, hulls, predictor, some_box, untrained

Make = Callable[..., DictConfig]
SIDE = 128
CLASSES = ["background", "cat", "dog"]


def real(make_config: Make, *words: str, side: int = SIDE) -> Restored:
    cfg = make_config(
        "task=multitask", "model.backbone=test_resnet", f"data.image_size={side}", *words
    )
    return untrained(cfg, class_names=CLASSES)


def finder(make_config: Make, *words: str, label: int = 2, side: int = SIDE) -> Restored:
    """Sees red as one class, in the mask and in a box."""
    found = real(make_config, *words, side=side)

    def answer(red: Tensor) -> dict[str, Tensor]:
        logits = torch.zeros(len(red), len(CLASSES), *red.shape[1:])
        logits[:, label] = red.float() * 20 - 10
        return {"segmentation": logits, "class_logits": hulls(red) * red.shape[-1]}

    def detections(outputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        return [
            {"boxes": box[None], "scores": torch.tensor([0.8]), "labels": torch.tensor([label])}
            for box in outputs["class_logits"]
        ]

    found.module.network = Network(answer)
    found.module.detections = detections
    return found


@pytest.mark.parametrize("flip", ["false", "true"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_drawn_box_is_found_where_it_was_drawn(make_config: Make, resize: str, flip: str) -> None:
    found = predictor(finder(make_config, f"data.resize={resize}"), words=f"flip={flip}")
    boxes = [some_box(size) for size in SIZES]
    results = found.predict([drawn(*pair) for pair in zip(SIZES, boxes, strict=True)])
    for size, box, result in zip(SIZES, boxes, results, strict=True):
        pixel = max(1.5, 1.5 * max(size) / SIDE)
        assert result.classes.shape == (size[1], size[0])
        assert set(np.unique(result.classes)) == {0, 2}
        rows, columns = (result.classes == 2).nonzero()
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(edges, box)).max() <= pixel
        assert np.abs(result.boxes.boxes[0] - box).max() <= pixel
        assert result.boxes.scores.tolist() == pytest.approx([0.8])
        (entry,) = found.entry(result)["boxes"]
        assert entry["class"] == "dog"


def test_at_the_networks_own_size_nothing_is_changed(make_config: Make) -> None:
    """The mask and the boxes are the module's, to the last digit that is kept."""
    found = real(make_config)
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    (result,) = predictor(found, words="score=0").predict([image])
    outputs = found.module(normalize(torch.from_numpy(image.transpose(2, 0, 1).copy())[None]))
    assert np.array_equal(result.classes, outputs["segmentation"][0].argmax(0).numpy())
    (expected,) = found.module.detections(outputs)
    assert len(expected["scores"]) > 0
    assert np.allclose(result.boxes.boxes, expected["boxes"])
    assert np.allclose(result.boxes.scores, expected["scores"])
    assert np.array_equal(result.boxes.labels, expected["labels"])


def test_scores_below_the_limit_are_left_out(make_config: Make) -> None:
    image = drawn((100, 100), (10, 10, 60, 60))
    for score, count in ((0.79, 1), (0.81, 0)):
        (result,) = predictor(finder(make_config), words=f"score={score}").predict([image])
        assert len(result.boxes.boxes) == count


def test_boxes_in_the_padding_are_none(make_config: Make) -> None:
    found = finder(make_config, "data.resize=letterbox")
    found.module.network.answer = lambda red: {
        "class_logits": torch.tensor([[0.0, 0.0, 128.0, 20.0]] * len(red))
    }
    (result,) = predictor(found).predict([np.zeros((50, 200, 3), np.uint8)])
    assert len(result.boxes.boxes) == 0


def test_several_networks(make_config: Make) -> None:
    """Both see the same box; one calls it a cat with less confidence in the mask."""
    image = drawn((150, 100), (30, 20, 120, 80))
    agreeing = predictor(finder(make_config), finder(make_config, side=64)).predict([image])[0]
    assert agreeing.boxes.scores.tolist() == pytest.approx([0.8])
    assert np.abs(agreeing.boxes.boxes[0] - (30, 20, 120, 80)).max() < 3
    assert agreeing.classes[50, 75] == 2
    members = [finder(make_config), finder(make_config, label=1)]
    apart = predictor(*members).predict([image])[0]
    assert sorted(apart.boxes.labels.tolist()) == [1, 2]
    assert apart.boxes.scores.tolist() == pytest.approx([0.4, 0.4])  # one of two saw each


def test_one_head_alone(make_config: Make) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    masks = predictor(real(make_config, "model.detection_head=none"))
    (result,) = masks.predict([image])
    assert result.boxes is None
    assert list(masks.tables) == ["classes"]
    assert masks.overlay(image, result).size == (90, 60)
    words = ("model.segmentation_head=none", "objective.metric=val/mAP")
    boxes = predictor(real(make_config, *words), words="score=0")
    (result,) = boxes.predict([image])
    assert result.classes is None
    assert list(boxes.tables) == ["boxes"]
    assert boxes.folders == ("overlays",)
    assert boxes.mask(result) is None
    with pytest.raises(UserError, match=r"heads of x\.ckpt are segmentation, detection, those of"):
        predictor(real(make_config), real(make_config, *words))


def test_rows_and_palette(make_config: Make) -> None:
    size, box = (200, 100), (50, 25, 150, 75)
    found = predictor(finder(make_config))
    (result,) = found.predict([drawn(size, box)])
    rows: dict[str, Any] = found.rows("a.jpg", size, result)
    (line,) = rows["boxes"]
    assert line[:5] == ("a.jpg", 200, 100, "dog", 0.8)
    assert np.allclose(line[5:], box, atol=2)
    shares = {label: (pixels, share) for _, _, _, label, pixels, share in rows["classes"]}
    assert set(shares) == {"background", "dog"}
    assert sum(pixels for pixels, _ in shares.values()) == 200 * 100
    assert shares["dog"][1] == pytest.approx(0.25, abs=0.02)
    mask = found.mask(result)
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), result.classes)
    palette = np.array(mask.getpalette()).reshape(-1, 3)
    assert palette[0].tolist() == [0, 0, 0]
    assert tuple(palette[2]) == found.colours[2]
    assert len({tuple(colour) for colour in palette[:3].tolist()}) == 3

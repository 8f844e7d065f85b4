"""Where a box lies in the image that somebody took, whatever its size and shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from phasewise.data.reading import AS_IS
from phasewise.errors import UserError
from phasewise.inference.prediction.predictor import Reader
from phasewise.inference.prediction.sources import list_images
from phasewise.inference.restore import Restored
from tests.predictors import (
    SIZES,
    Network,
    drawn,
    hulls,
    predictor,
    some_box,
    turned,
    untrained,
)

Make = Callable[..., DictConfig]
SIDE = 128


def member(make_config: Make, *words: str, side: int = SIDE, name: str = "x.ckpt") -> Restored:
    cfg = make_config(
        "task=localization", "model.backbone=test_resnet", f"data.image_size={side}", *words
    )
    found = untrained(cfg, name, class_names=["background", "animal"])
    found.module.network = Network(hulls)
    return found


def constant(make_config: Make, box: tuple[float, ...], resize: str = "stretch") -> Restored:
    found = member(make_config, f"data.resize={resize}")
    found.module.network = Network(lambda red: torch.tensor([box] * len(red)))
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_drawn_box_is_found_where_it_was_drawn(
    make_config: Make, resize: str, flip: bool
) -> None:
    """To the pixel of the network, which is several of a large image."""
    words = f"batch_size=3 flip={str(flip).lower()}"
    found = predictor(member(make_config, f"data.resize={resize}"), words=words)
    boxes = [some_box(size) for size in SIZES]
    results = found.predict([drawn(*pair) for pair in zip(SIZES, boxes, strict=True)])
    for size, box, result in zip(SIZES, boxes, results, strict=True):
        pixel = max(size) / SIDE
        assert np.abs(result - box).max() <= max(pixel, 0.5) * (1.01 if not flip else 1.51)


def test_a_box_is_undone_exactly(make_config: Make) -> None:
    box = (0.25, 0.375, 0.5, 0.75)
    image = np.zeros((200, 300, 3), np.uint8)
    (stretched,) = predictor(constant(make_config, box)).predict([image])
    assert stretched.tolist() == pytest.approx([75, 75, 150, 150])
    (boxed,) = predictor(constant(make_config, box, resize="letterbox")).predict([image])
    # 300 x 200 become 128 x 85, from row 21 on: (48 - 21) * 200 / 85 and (96 - 21) * 200 / 85
    assert boxed.tolist() == pytest.approx([75, 27 * 200 / 85, 150, 75 * 200 / 85])


def test_what_lies_in_the_padding_is_moved_to_the_edge(make_config: Make) -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    (box,) = predictor(constant(make_config, (0, 0, 1, 1), resize="letterbox")).predict([image])
    assert box.tolist() == [0, 0, 300, 100]


def test_mirror_images_are_flipped_back(make_config: Make) -> None:
    """A network that always says the left half: the mean with the right half is what is left."""
    image = np.zeros((10, 40, 3), np.uint8)
    left = constant(make_config, (0.0, 0.0, 0.5, 1.0))
    (box,) = predictor(left, words="flip=true").predict([image])
    assert box.tolist() == pytest.approx([10, 0, 30, 10])


def test_several_networks_give_the_mean_box(make_config: Make) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    one, two = (constant(make_config, box) for box in ((0, 0, 0.5, 0.5), (0.5, 0.2, 1.0, 1.0)))
    (box,) = predictor(one, two).predict([image])
    assert box.tolist() == pytest.approx([50, 10, 150, 75])


def test_networks_of_other_sizes_go_together(make_config: Make) -> None:
    size = (300, 200)
    members = [member(make_config), member(make_config, "data.resize=letterbox", side=64)]
    (box,) = predictor(*members).predict([drawn(size, some_box(size))])
    assert np.abs(box - some_box(size)).max() < 4


def test_networks_of_other_classes_do_not(make_config: Make) -> None:
    members = [member(make_config, name="a.ckpt"), member(make_config, name="b.ckpt")]
    members[1].info["class_names"] = ["background", "car"]
    told = r"classes of a\.ckpt are background, animal, those of b\.ckpt background, car"
    with pytest.raises(UserError, match=told):
        predictor(*members)


def test_an_image_on_its_side_is_predicted_upright(make_config: Make, tmp_path: Path) -> None:
    size = (120, 333)
    turned(drawn(size, some_box(size)), tmp_path / "photo.JPG")
    (item,) = list_images(str(tmp_path), "source")
    image = Reader(AS_IS).read(item)
    assert image.shape == (333, 120, 3)
    (box,) = predictor(member(make_config)).predict([image])
    assert np.abs(box - some_box(size)).max() <= 333 / SIDE * 1.01


def test_the_frame_is_drawn_at_the_box(make_config: Make) -> None:
    box = np.array([40.0, 30.0, 150.0, 180.0])
    plain = np.full((200, 300, 3), 128, np.uint8)
    painted = np.asarray(predictor(member(make_config)).overlay(plain, box))
    assert painted.shape == (200, 300, 3)
    rows, columns = (painted != plain).any(-1).nonzero()
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (40, 30, 150, 180)
    assert (painted[60:150, 60:130] == 128).all()

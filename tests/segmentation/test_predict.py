"""Masks and objects in the image that somebody took, as a whole or square by square."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from phasewise.augment.color import denormalize, normalize
from phasewise.data.reading import AS_IS, Reading
from phasewise.errors import UserError
from phasewise.inference.prediction.predictor import Reader
from phasewise.inference.prediction.sources import list_images
from phasewise.inference.restore import Restored
from segmentation import synthetic
from segmentation.metrics import SegmentationScores
from tests.predictors import SIZES, Network, drawn, predictor, some_box, untrained

Make = Callable[..., DictConfig]
SIDE = 64


def member(make_config: Make, *words: str, side: int = SIDE) -> Restored:
    cfg = make_config("task=segmentation", "model.width=4", f"data.image_size={side}", *words)
    found = untrained(cfg, class_names=["background", "foreground"], reading=AS_IS.as_dict())
    found.module.network = Network(lambda red: red.float() * 20 - 10)
    return found


class Blur(nn.Module):
    """Finds what is redder than green on average around it: what padding it sees matters."""

    def forward(self, images: Tensor) -> Tensor:
        pixels = denormalize(images).float()
        return avg_pool2d(pixels[:, 0] - pixels[:, 1], 5, 1, 2)


@pytest.mark.parametrize("words", ["", "flip=true", "tile=64", "tile=32 overlap=4", "tile=100"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_drawn_box_is_masked_where_it_was_drawn(
    make_config: Make, resize: str, words: str
) -> None:
    found = predictor(member(make_config, f"data.resize={resize}"), words=words)
    boxes = [some_box(size) for size in SIZES]
    images = [drawn(*pair) for pair in zip(SIZES, boxes, strict=True)]
    for size, box, result in zip(SIZES, boxes, found.predict(images), strict=True):
        assert result.mask.shape == (size[1], size[0])
        rows, columns = result.mask.nonzero()
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(edges, box)).max() <= max(1, max(size) / SIDE)
        assert len(result.points) == 1
        x, y, area = result.points[0]
        assert abs(x - (box[0] + box[2]) / 2) <= max(size) / SIDE
        assert abs(y - (box[1] + box[3]) / 2) <= max(size) / SIDE
        assert area == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), rel=0.15)


def test_squares_leave_no_seams(make_config: Make) -> None:
    """A network that sees no further than two pixels gives the same mask as for the whole image."""
    image = np.random.default_rng(0).integers(0, 256, (150, 170, 3), np.uint8)
    found = member(make_config)
    found.module.network = Blur()
    (result,) = predictor(found, words="tile=64 overlap=16").predict([image])
    batch = normalize(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    whole = (Blur()(batch)[0].sigmoid() >= 0.5).numpy()
    assert 0.3 < whole.mean() < 0.7
    assert np.array_equal(result.mask, whole)
    (seams,) = predictor(found, words="tile=64 overlap=0").predict([image])
    assert not np.array_equal(seams.mask, whole)


def test_squares_are_those_of_training(make_config: Make) -> None:
    image = drawn((200, 200), (20, 20, 150, 90))
    asked = predictor(member(make_config), words="tile=50").predict([image])
    trained = member(make_config)
    trained.config["data"]["tile_size"] = 50
    (found,) = predictor(trained).predict([image])
    assert np.array_equal(found.mask, asked[0].mask)
    assert found.objects.shape == asked[0].objects.shape == (256, 256)  # 200 * 64 / 50


def test_objects_are_counted_as_in_evaluation(make_config: Make) -> None:
    """What the metrics count in images of the network's own size."""
    found = member(make_config, "data.min_area=4")
    found.module.network = Network(lambda red: red.float())
    samples = [synthetic.draw_image("test", i, size=SIDE, seed=0, beads=80) for i in range(4)]
    masks = torch.from_numpy(np.stack([sample["mask"] for sample in samples]))
    images = [np.where(np.asarray(mask)[..., None] == 1, (255, 0, 0), (0, 0, 0)) for mask in masks]
    found.module.network = Network(lambda red: red.float() * 20 - 10)
    counted = [
        len(it.points) for it in predictor(found).predict([i.astype(np.uint8) for i in images])
    ]
    data = found.config["data"]
    metric = SegmentationScores(0.5, True, data["min_area"], data["min_distance"])
    instances = torch.from_numpy(np.stack([sample["instances"] for sample in samples]))
    metric.update((masks == 1).float(), masks, instances)
    metric.compute(choose=False)
    assert counted == [predicted for predicted, _ in metric.counts]
    assert sum(counted) > 100


def test_the_threshold_is_the_checkpoints(make_config: Make) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    for probability, expected in ((0.29, 0.0), (0.31, 1.0)):
        found = member(make_config)
        logit = float(torch.tensor(probability).logit())
        found.module.network = Network(lambda red, logit=logit: torch.full(red.shape, logit))
        found.module.metrics.threshold.fill_(0.3)
        (result,) = predictor(found).predict([image])
        assert result.mask.mean() == expected


def test_several_networks_are_averaged(make_config: Make) -> None:
    """Probabilities .2 and .9 are .55; thresholds .3 and .7 are .5."""
    members = [member(make_config), member(make_config, side=32)]
    for it, probability, threshold in zip(members, (0.2, 0.9), (0.3, 0.7), strict=True):
        logit = float(torch.tensor(probability).logit())
        it.module.network = Network(lambda red, logit=logit: torch.full(red.shape, logit))
        it.module.metrics.threshold.fill_(threshold)
    image = np.zeros((40, 50, 3), np.uint8)
    assert predictor(*members).predict([image])[0].mask.all()
    members[1].module.metrics.threshold.fill_(0.9)  # .6 on average
    assert not predictor(*members).predict([image])[0].mask.any()


def test_without_objects_nothing_is_counted(make_config: Make) -> None:
    found = predictor(member(make_config, "evaluation.objects=false", "objective.metric=val/dice"))
    (result,) = found.predict([drawn((80, 60), (10, 10, 40, 40))])
    assert result.objects is None
    assert list(found.entry(result)) == ["foreground"]
    assert list(found.tables) == ["images"]
    assert found.overlay(drawn((80, 60), (10, 10, 40, 40)), result).size == (80, 60)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("overlap=8", "overlap=8: needs tile=PIXELS"),
        ("overlap=0", "overlap=0: needs tile=PIXELS"),
    ],
)
def test_overlap_without_squares(make_config: Make, words: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        predictor(member(make_config), words=words)


def test_overlap_larger_than_the_squares_of_training(make_config: Make) -> None:
    found = member(make_config)
    found.config["data"]["tile_size"] = 50
    with pytest.raises(UserError, match="overlap=50: must be smaller than the squares of 50"):
        predictor(found, words="overlap=50")


def test_pictures(make_config: Make) -> None:
    image = drawn((300, 200), (30, 40, 150, 120))
    found = predictor(member(make_config))
    (result,) = found.predict([image])
    mask = np.asarray(found.mask(result))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, result.mask * np.uint8(255))
    painted = np.asarray(found.overlay(image, result))
    changed = (painted != image).any(-1)
    rows, columns = changed[35:].nonzero()  # the count stands above
    box = (columns.min(), rows.min() + 35, columns.max() + 1, rows.max() + 36)
    assert np.abs(np.subtract(box, (30, 40, 150, 120))).max() <= 5
    assert not changed[60:100, 50:130].any()


def test_grey_images_of_twelve_bits_are_as_bright_as_in_training(
    make_config: Make, tmp_path: Path
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        grey = np.full((40, 40), 4000 if i == 5 else 1000, np.uint16)
        Image.fromarray(grey).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.full((40, 40), i % 2, np.uint8)).save(tmp_path / f"masks/{i}.png")
    words = ("data=image_mask", f"data.root={tmp_path}", f"data.image_size={SIDE}", "model.width=4")
    cfg = make_config("task=segmentation", *words)
    data = instantiate(cfg.data, seed=0)
    data.setup()
    info = data.describe()
    assert info["reading"] == Reading(black=0, white=4095).as_dict()
    found = predictor(untrained(cfg, **info))
    pixels = Reader(found.reading).read(list_images(f"{tmp_path}/images/0.png", "source")[0])
    seen = data.splits.stores["train"]["image"][0]
    assert int(seen.max()) == int(pixels.max()) == round(1000 * 255 / 4095)

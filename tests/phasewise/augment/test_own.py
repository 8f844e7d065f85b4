"""Augmentations of a user's own beside those with a name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasewise.augment.color import denormalize, normalize
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import check_augment
from phasewise.errors import UserError

FOG = {"_target_": "tests.outside.fog.Fog", "strength": 0.4}


def images() -> Tensor:
    return torch.randint(256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_it_sees_images_from_0_to_1_and_draws_by_the_seed() -> None:
    augment = Augment([FOG])
    one, same, other = (augment({"image": images()}, seed)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # white is further away by the same share in all pixels of an image
    share = (denormalize(one) - images().float()) / (255 - images().float()).clamp_min(60)
    clear = images() < 150
    for row, mask in zip(share, clear, strict=True):
        values = row[mask]
        assert values.std() < 0.02
        assert 0 <= values.mean() <= 0.4


def test_it_moves_no_draw_of_those_before_it_and_none_of_its_neighbours() -> None:
    batch = {"image": images(), "mask": torch.randint(3, (5, 8, 8))}
    alone = Augment(["flip", "rotate"])(batch, 3)
    fog = Augment(["flip", "rotate", {**FOG, "strength": 0.0}])(batch, 3)
    assert torch.equal(alone["mask"], fog["mask"])
    assert (alone["image"] - fog["image"]).abs().max() < 1e-5
    plain = Augment([{**FOG, "strength": 0.0}])(batch, 3)["image"]
    assert (plain - normalize(images())).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({**FOG, "strenght": 1}, "data.augment[1].strenght=1: tests.outside.fog.Fog takes no such"),
        ({"_target_": "tests.outside.fog.Fogg"}, "tests.outside.fog has no Fogg; did you mean Fog"),
        ({"_target_": "nobody.Has"}, "data.augment[1]._target_=nobody.Has: no package nobody here"),
    ],
)
def test_what_does_not_fit_is_told(entry: dict[str, object], told: str) -> None:
    (problem,) = check_augment(["flip", entry], imports=True)
    assert told in f"{problem.file}: {problem.reason}"
    assert check_augment(["flip", entry]) == []  # of a checkpoint: nothing is imported


def test_what_it_returns_is_looked_at() -> None:
    augment = Augment([{"_target_": "tests.outside.fog.Halved"}])
    with pytest.raises(UserError, match=r"^data.augment: Halved returned \(5, 3, 4, 8\); wanted"):
        augment({"image": images()}, 0)
    with pytest.raises(UserError, match=r"^data.augment: builtins.dict makes a dict, which cannot"):
        Augment([{"_target_": "builtins.dict"}])

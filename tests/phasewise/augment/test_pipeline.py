from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import AUGMENTATIONS

ALL = [*AUGMENTATIONS]


def certain(name: str) -> dict[str, dict[str, float]]:
    return {name: {"p": 1} if "p" in AUGMENTATIONS[name].parameters else {}}


@pytest.mark.parametrize("names", [*([n] for n in ALL), ALL])
def test_the_seed_decides(names: list[str], photos: Tensor) -> None:
    batch = {"image": photos, "mask": photos[:, 0]}
    augment = Augment([certain(name) for name in names])
    first, again, other = (augment(batch, seed) for seed in (0, 0, 1))
    torch.manual_seed(5)  # the global generator plays no part
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert torch.equal(augment(batch, 0)["image"], first["image"])
    if names not in (["flip"], ["vflip"]):  # certain flips have nothing to draw
        assert not torch.equal(first["image"], other["image"])


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("flip", "vflip", "cutmix", "mixup")])
def test_each_image_has_its_own_draw(name: str, photos: Tensor) -> None:
    same = photos[:1].repeat(8, 1, 1, 1)
    out = Augment([certain(name)])({"image": same}, seed=0)["image"]
    assert len(out.unique(dim=0)) >= 5  # translate has 48 places


@pytest.mark.parametrize("name", [n for n in ALL if "p" in AUGMENTATIONS[n].parameters])
def test_p_is_the_share_of_images_that_change(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1000, 3, 16, 16), generator=generator, dtype=torch.uint8)
    entry = {name: {"p": 0.3, "sigma_min": 0.5}} if name == "blur" else {name: {"p": 0.3}}
    out = Augment([entry])({"image": image}, seed=1)["image"]
    changed = (out - normalize(image)).abs().flatten(1).amax(1) > 1e-3
    assert abs(changed.float().mean() - 0.3) < 0.06
    none = Augment([{name: {"p": 0}}])({"image": image}, seed=1)["image"]
    torch.testing.assert_close(none, normalize(image), atol=1e-5, rtol=0)


def test_a_later_entry_moves_no_earlier_draw(photos: Tensor) -> None:
    alone = Augment(["flip", "rotate"])({"image": photos, "mask": photos[:, 0]}, 3)
    more = Augment(["flip", "rotate", "erase", "hue"])({"image": photos, "mask": photos[:, 0]}, 3)
    assert torch.equal(alone["mask"], more["mask"])


def test_the_batch_given_is_left_as_it_was(scene: dict[str, Tensor]) -> None:
    before = {key: value.clone() for key, value in scene.items()}
    Augment([certain(name) for name in ALL])(scene, seed=0)
    assert scene.keys() == before.keys()
    assert all(torch.equal(scene[key], before[key]) for key in before)


def test_other_keys_pass_through(scene: dict[str, Tensor]) -> None:
    index = torch.arange(16)
    out = Augment(["rotate"])({**scene, "index": index}, seed=0)
    assert out["index"] is index
    shapes = {key: (value.shape, value.dtype) for key, value in scene.items() if key != "image"}
    assert shapes == {key: (out[key].shape, out[key].dtype) for key in shapes}
    assert out["image"].dtype == torch.float32


def test_images_alone_and_batches_of_one(photos: Tensor) -> None:
    out = Augment([certain(name) for name in ALL])({"image": photos[:1]}, seed=0)
    assert out["image"].shape == (1, 3, 40, 56) and out["image"].isfinite().all()
    assert out.keys() == {"image", "mix_index", "mix_lambda"}


def test_boxes_without_masks_and_without_any_box(photos: Tensor) -> None:
    batch = {"image": photos, "boxes": torch.zeros(8, 0, 4), "labels": torch.zeros(8, 0).long()}
    out = Augment(["rotate"])(batch, seed=0)
    assert out["boxes"].shape == (8, 0, 4) and out["labels"].shape == (8, 0)


def test_mixup_blends_with_the_image_it_names(photos: Tensor) -> None:
    out = Augment([{"mixup": {"alpha": 1.0}}])({"image": photos, "labels": torch.arange(8)}, 2)
    weight, index = out["mix_lambda"], out["mix_index"]
    plain = normalize(photos)
    expected = weight * plain + (1 - weight) * plain[index]
    torch.testing.assert_close(out["image"], expected, atol=1e-5, rtol=0)
    assert weight.shape == () and 0 < weight < 1
    assert index.dtype == torch.int64 and sorted(index.tolist()) == list(range(8))
    assert out["labels"].tolist() == list(range(8))


def test_mixup_draws_from_a_beta_distribution() -> None:
    tiny = {"image": torch.zeros(2, 3, 2, 2, dtype=torch.uint8)}
    augment = Augment([{"mixup": {"alpha": 0.4}}])
    weights = torch.stack([augment(tiny, seed)["mix_lambda"] for seed in range(1500)])
    assert abs(weights.mean() - 0.5) < 0.04
    assert abs(weights.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.015  # variance of Beta(a, a)


@pytest.mark.parametrize("image", [torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4).byte()])
def test_only_byte_batches_are_taken(image: Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Augment([])({"image": image}, seed=0)

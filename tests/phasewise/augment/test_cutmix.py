from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from timm.data.mixup import rand_bbox
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.augment.pipeline import Augment
from phasewise.errors import UserError


def test_a_window_of_image_and_mask_is_that_of_another_image(photos: Tensor) -> None:
    """Pixel by pixel: whose they are is written into the masks."""
    count, _, height, width = photos.shape
    owners = torch.arange(count)[:, None, None].expand(-1, height, width).contiguous()
    plain = normalize(photos)
    sizes = set()
    for seed in range(20):
        out = Augment(["cutmix"])({"image": photos, "mask": owners}, seed)
        assert out.keys() == {"image", "mask"}  # the mask moved: no loss is to be mixed
        rows, columns = np.indices((height, width))
        found = out["mask"].numpy()
        expected = plain.numpy()[found, :, rows, columns].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(out["image"].numpy(), expected, atol=1e-6)
        moved = found != np.arange(count)[:, None, None]
        partners = [np.unique(found[i][moved[i]]) for i in range(count)]
        assert all(len(one) <= 1 for one in partners)
        windows = [moved[i] for i in range(count) if len(partners[i])]
        if windows:
            assert all((window == windows[0]).all() for window in windows)  # one for the batch
            sides = windows[0].any(1).sum(), windows[0].any(0).sum()
            assert windows[0].sum() == sides[0] * sides[1]
            sizes.add(sides)
    assert len(sizes) > 10


def test_windows_are_as_large_as_those_of_timm() -> None:
    """Mean and variance of their share of the image, and where they lie."""
    height, width, alpha = 32, 48, 0.7
    owners = torch.tensor([0, 1]).view(2, 1, 1).expand(2, height, width).contiguous()
    batch = {"image": torch.zeros(2, 3, height, width, dtype=torch.uint8), "mask": owners}
    augment = Augment([{"cutmix": {"alpha": alpha}}])
    masks = [augment(batch, seed)["mask"][0] for seed in range(3000)]
    moved = np.stack([mask.numpy() for mask in masks if mask.any()])
    np.random.seed(0)  # noqa: NPY002  timm draws from the global generator
    random = np.random.default_rng(0)
    theirs = np.zeros((3000, height, width))
    for window in theirs:
        top, bottom, left, right = rand_bbox((2, 3, height, width), random.beta(alpha, alpha))
        window[top:bottom, left:right] = 1
    theirs = theirs[theirs.any((1, 2))]
    shares = moved.mean((1, 2)), theirs.mean((1, 2))
    assert shares[0].mean() == pytest.approx(shares[1].mean(), abs=0.02)
    assert shares[0].std() == pytest.approx(shares[1].std(), abs=0.02)
    assert np.abs(moved.mean(0) - theirs.mean(0)).max() < 0.06


def test_it_composes_with_mixup(photos: Tensor) -> None:
    """Blended are the images with their windows, and so are the masks to be."""
    batch = {"image": photos, "mask": photos[:, 0]}
    cut = Augment(["cutmix"])(batch, 4)
    both = Augment(["cutmix", "mixup"])(batch, 4)
    assert torch.equal(both["mask"], cut["mask"])
    share, index = both["mix_lambda"], both["mix_index"]
    expected = share * cut["image"] + (1 - share) * cut["image"][index]
    torch.testing.assert_close(both["image"], expected, atol=1e-5, rtol=0)


def test_boxes_alone_are_refused(photos: Tensor) -> None:
    boxes = {"boxes": torch.zeros(8, 1, 4), "labels": torch.ones(8, 1).long()}
    with pytest.raises(UserError, match="may leave out the object that its box says is there"):
        Augment(["cutmix"])({"image": photos, **boxes}, 0)


@pytest.mark.parametrize("task", ["localization", "multitask"])
def test_tasks_of_boxes_refuse_it(task: str, make_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match="cutmix: a window of another image may leave out"):
        make_config(f"task={task}", "data.augment=[cutmix]")

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from phasewise.augment.blur import blur
from phasewise.augment.color import normalize
from phasewise.augment.pipeline import Augment


def test_blur_equals_torchvisions_with_one_sigma_per_image(photos: Tensor) -> None:
    image = normalize(photos)
    sigma = torch.tensor([0.0, 0.1, 0.5, 0.8, 1.0, 1.5, 0.0, 2.0], dtype=torch.float64)
    out = blur(image.clone(), sigma)
    for i, s in enumerate(sigma.tolist()):
        expected = tv.gaussian_blur(image[i], [13, 13], [s, s]) if s else image[i]
        torch.testing.assert_close(out[i], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_images_smaller_than_the_kernel(side: int) -> None:
    image = torch.full((2, 3, side, side), 3.0)
    out = blur(image.clone(), torch.tensor([4.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(out, image)


def test_one_image_in_five_is_blurred() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (2000, 3, 6, 6), generator=generator, dtype=torch.uint8)
    entry = {"blur": {"sigma_min": 1.0}}
    out = Augment([entry])({"image": noise}, seed=0)["image"]
    changed = (out != normalize(noise)).flatten(1).any(1)
    assert abs(changed.float().mean() - 0.2) < 0.04

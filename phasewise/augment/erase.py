"""Rectangles filled with the mean colour: random erasing and cutout.

Only the image is erased: masks and boxes still say what is hidden there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from phasewise.augment.draws import Draws
from phasewise.augment.transfer import send


def _erase(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Zhong et al., "Random Erasing Data Augmentation" (2020); ratio drawn as torchvision does."""
    narrow = draws.height / draws.width  # ratios are in pixels, windows in fractions of the sides
    area = values["area_min"], values["area_max"]
    ratio = values["ratio_min"] * narrow, values["ratio_max"] * narrow
    height, width = draws.window(area, ratio)
    height = (height * draws.height).round().clamp_(min=1)
    width = (width * draws.width).round().clamp_(min=1)
    top = draws.below(draws.height - height + 1)
    left = draws.below(draws.width - width + 1)
    return torch.stack([top, left, top + height.long(), left + width.long()], 1)[:, None]


def _cutout(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """DeVries and Taylor (2017): the centre is any pixel, so a square may leave the image."""
    side = max(1, round(values["size"] * min(draws.height, draws.width)))
    holes = int(values["holes"])
    top = draws.below(draws.height, holes) - side // 2
    left = draws.below(draws.width, holes) - side // 2
    return torch.stack([top, left, top + side, left + side], 2)


ERASE: dict[str, Callable[[Draws, Mapping[str, float]], Tensor]] = {
    "erase": _erase,
    "cutout": _cutout,
}
"""Name -> rectangles (B, K, 4) int64 of one draw: top, left, bottom, right in pixels."""


def fill(image: Tensor, holes: Tensor) -> Tensor:
    """Sets rectangles of a normalised image to 0, the mean colour, in place.

    Args:
        image: float (B, C, H, W).
        holes: (B, K, 4) int64: top, left, bottom, right in pixels; may leave the image or be empty.
    """
    holes = send(holes, image.device).unsqueeze(-1)
    y, x = (torch.arange(side, device=image.device) for side in image.shape[2:])
    rows = (y >= holes[:, :, 0]) & (y < holes[:, :, 2])
    columns = (x >= holes[:, :, 1]) & (x < holes[:, :, 3])
    covered = torch.bmm(rows.float().transpose(1, 2), columns.float())
    return image.mul_((covered == 0).unsqueeze(1))

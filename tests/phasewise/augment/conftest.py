from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def photos() -> Tensor:
    """uint8 (8, 3, 40, 56): noise, not square, no two rows or channels alike."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (8, 3, 40, 56), generator=generator, dtype=torch.uint8)


@pytest.fixture
def scene() -> dict[str, Tensor]:
    """16 images 240 x 320, black but for one white box each, which the mask calls class 1."""
    generator = torch.Generator().manual_seed(2)
    image = torch.zeros(16, 3, 240, 320, dtype=torch.uint8)
    mask = torch.zeros(16, 240, 320, dtype=torch.uint8)
    boxes = torch.zeros(16, 2, 4)
    labels = torch.full((16, 2), -1)
    for i in range(16):
        x, y = (int(torch.randint(70, 90, (), generator=generator)) for _ in range(2))
        w, h = (int(torch.randint(60, 100, (), generator=generator)) for _ in range(2))
        image[i, :, y : y + h, x : x + w] = 255
        mask[i, y : y + h, x : x + w] = 1
        boxes[i, 0] = torch.tensor([x, y, x + w, y + h])
        labels[i, 0] = 3
    return {"image": image, "mask": mask, "boxes": boxes, "labels": labels}

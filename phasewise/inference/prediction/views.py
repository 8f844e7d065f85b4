"""What networks look at: squares of pixels, and perhaps their mirror images, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.data.images import UINT8


class View(NamedTuple):
    """A batch.

    ``rows``: which squares; ``images`` normalised (B, 3, S, S); ``mirrored``: whether they are
    flipped left to right.
    """

    rows: range
    images: Tensor
    mirrored: bool


def views(
    squares: Sequence[UINT8], batch_size: int, device: torch.device, *, flip: bool
) -> Iterator[View]:
    """All squares, batch by batch; with ``flip`` every batch a second time, mirrored.

    Args:
        squares: each (S, S, 3).
        batch_size: squares at once.
        device: where the images are put.
        flip: whether mirror images are looked at too.
    """
    for start in range(0, len(squares), batch_size):
        part = np.stack(squares[start : start + batch_size]).transpose(0, 3, 1, 2)
        images = normalize(torch.from_numpy(np.ascontiguousarray(part)).to(device))
        rows = range(start, start + len(part))
        yield View(rows, images, mirrored=False)
        if flip:
            yield View(rows, images.flip(-1), mirrored=True)

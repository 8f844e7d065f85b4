"""Images that are larger than what a network looks at, square by square."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor

from phasewise.data.images import PADDING_COLOUR, UINT8


class Tiles:
    """Squares that cover an image and overlap, and how maps of them become one.

    Near the edge of a square a network does not see what is around; so within the overlap of two
    squares the outer quarter of each counts for nothing, and one is blended linearly into the other
    between.

    Args:
        shape: height and width of the image in pixels.
        side: of the squares.
        overlap: least pixels that neighbours share, 0 <= overlap < side. The last square of a row
            or column moves inwards; an image that is smaller is padded at the right and bottom.
    """

    def __init__(self, shape: tuple[int, int], side: int, overlap: int) -> None:
        self.shape, self.side, self.overlap = shape, side, overlap
        self.corners = [
            (top, left) for top in self._starts(shape[0]) for left in self._starts(shape[1])
        ]

    def _starts(self, length: int) -> list[int]:
        stride = self.side - self.overlap
        count = 1 + max(0, ceil((length - self.side) / stride))
        return [max(0, min(i * stride, length - self.side)) for i in range(count)]

    def cut(self, image: UINT8) -> list[UINT8]:
        """Image (H, W, 3) to the squares, each (S, S, 3)."""
        squares = []
        for top, left in self.corners:
            part = image[top : top + self.side, left : left + self.side]
            square = np.empty((self.side, self.side, 3), np.uint8)
            square[:] = PADDING_COLOUR
            square[: part.shape[0], : part.shape[1]] = part
            squares.append(square)
        return squares

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (S, S) of the squares, on the CPU, to one (H, W), float32."""
        if len(maps) == 1:
            return maps[0][: self.shape[0], : self.shape[1]].float()
        total, weight = (torch.zeros(self.shape) for _ in range(2))
        for (top, left), values in zip(self.corners, maps, strict=True):
            rows = self._weights(top, self.shape[0])
            columns = self._weights(left, self.shape[1])
            counts = rows[:, None] * columns
            place = slice(top, top + len(rows)), slice(left, left + len(columns))
            total[place] += counts * values[: len(rows), : len(columns)]
            weight[place] += counts
        return total / weight

    def _weights(self, start: int, length: int) -> Tensor:
        """How much each row (or column) of a square counts; those beyond the image are left out."""
        ramp = torch.ones(min(self.side, length - start))
        if self.overlap:
            margin = self.overlap / 4
            inwards = (torch.arange(self.overlap) + 0.5 - margin) / (self.overlap / 2)
            rising = inwards.clamp(0, 1)
            if start > 0:
                ramp[: self.overlap] *= rising
            if start + self.side < length:
                ramp[-self.overlap :] *= rising.flip(0)
        return ramp

"""Boxes that were drawn on an image of another size, or on one that lay on its side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from phasewise.data.images import under_centres
from phasewise.data.listing import by
from phasewise.data.opening import orientation_of
from phasewise.errors import BadSample

Box = tuple[float, float, float, float]
Size = tuple[int, int]
Mask = npt.NDArray[np.bool_]

ROUNDING = 1.0
"""Sides that a program has scaled are whole pixels: the aspect agrees up to so many of them."""


FROM_RIGHT, FROM_BELOW = (2, 3, 7, 8), (3, 4, 6, 7)
"""EXIF orientations that mirror the columns or the rows of the stored image; from 5 on, columns
become rows after that."""


@dataclass(frozen=True)
class Frame:
    """From the pixels that annotations are stated in to those of the upright image.

    Attributes:
        stated: width and height of the image that was annotated.
        size: width and height of the upright image.
        turn: EXIF orientation by which the stated image becomes upright, 1 to 8; 1 = it is.
    """

    stated: Size
    size: Size
    turn: int = 1

    @property
    def is_scaled(self) -> bool:
        """Whether the sizes differ."""
        turned = self.stated[::-1] if self.turn >= 5 else self.stated
        return turned != self.size

    def box(self, box: Box) -> Box:
        """x1, y1, x2, y2 in stated pixels to the same in pixels of the upright image."""
        x1, y1, x2, y2 = box
        width, height = self.stated
        # where the stored left and top edges come to lie: EXIF 2.32, table 8
        if self.turn in FROM_RIGHT:
            x1, x2 = width - x2, width - x1
        if self.turn in FROM_BELOW:
            y1, y2 = height - y2, height - y1
        if self.turn >= 5:
            x1, y1, x2, y2, width, height = y1, x1, y2, x2, height, width
        across, down = self.size[0] / width, self.size[1] / height
        return x1 * across, y1 * down, x2 * across, y2 * down

    def mask(self, mask: Mask) -> Mask:
        """(height, width) in stated pixels to the same in pixels of the upright image: of each
        pixel the one under its centre."""
        if self.turn in FROM_RIGHT:
            mask = mask[:, ::-1]
        if self.turn in FROM_BELOW:
            mask = mask[::-1]
        if self.turn >= 5:
            mask = mask.T
        width, height = self.size
        if mask.shape == (height, width):
            return mask
        rows, columns = under_centres(height, mask.shape[0]), under_centres(width, mask.shape[1])
        return mask[rows[:, None], columns]


@cache
def as_it_is(size: Size) -> Frame:
    """Of annotations in pixels of the upright image."""
    return Frame(size, size)


def find_frame(stated: tuple[Any, Any], size: Size, image: Path, name: str, source: str) -> Frame:
    """How annotations lie on an image, by the size that they state for it.

    Swapped sides are those of an image as it is stored where EXIF says that it lies on its side:
    programs that do not look there annotate it so. Other sizes of the same aspect are scaled.

    Args:
        stated: width and height, whatever the annotations hold there; what is no size above 0 says
            nothing.
        size: of the upright image.
        image: its file.
        name, source: how messages call it, and the annotations.

    Raises:
        BadSample: the stated size has another aspect.
    """
    if stated == size:
        return as_it_is(size)
    width, height = (_pixels(side) for side in stated)
    if not width or not height or (width, height) == size:
        return as_it_is(size)
    if _same_aspect((width, height), size):
        return Frame((width, height), size)
    hint = ""
    if _same_aspect((height, width), size):
        if (turn := _orientation(image)) >= 5:
            return Frame((width, height), size, turn)
        hint = "; the sides are swapped, and no EXIF tag says which way it was turned"
    raise BadSample(name, f"{source} says {by((width, height))}, the image is {by(size)}{hint}")


def as_stored(mask: Size, size: Size, image: Path) -> str:
    """What to add where a mask is refused for its size: what can be done if it is that of the image
    as it is stored, which EXIF turns. Empty if it is not.

    Args:
        mask: its width and height.
        size: of the upright image.
        image: its file.
    """
    if mask != size[::-1] or _orientation(image) < 5:
        return ""
    return (
        "; EXIF turns the image, and the mask is as it is stored: turn the mask, or save the image "
        "without its EXIF tag"
    )


def _pixels(side: Any) -> int:
    try:
        return max(int(float(side)), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _same_aspect(stated: Size, size: Size) -> bool:
    scale = size[0] / stated[0]
    return abs(size[1] - stated[1] * scale) <= ROUNDING * max(1.0, scale)


def _orientation(path: Path) -> int:
    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
            return orientation_of(image)
    except Exception:  # what is wrong with the file is told elsewhere
        return 1

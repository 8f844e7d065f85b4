"""Reading images and masks from disk, and one resizing map for image, mask and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from phasewise.data.opening import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    opened,
    orientation_of,
    upright,
    upright_size,
)
from phasewise.data.reading import (
    AS_IS,
    UINT8,
    Layout,
    Reading,
    layout_of,
    read_raw,
    refusal,
    to_rgb,
)
from phasewise.data.tiff import is_tiff
from phasewise.errors import BadSample, UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "PADDING_COLOUR",
    "UINT8",
    "VOID",
    "Header",
    "Resize",
    "image_header",
    "image_size",
    "mask_size",
    "read_image",
    "read_mask",
]

VOID = 255
"""Mask value of pixels without a label."""

PADDING_COLOUR = (124, 116, 104)
"""The ImageNet mean (.485, .456, .406) in 8 bits: zero after normalisation, up to rounding."""

Whole = TypeVar("Whole", bound=np.integer[Any])


def image_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """Width and height of the upright image in pixels, from the header alone.

    Args:
        path: the file.
        name: how messages call it; the path if not given.

    Raises:
        BadSample: it is unreadable, not an image, or has more than ``MAX_PIXELS`` pixels.
    """
    layout = layout_of(path, name)
    if reason := refusal(layout, AS_IS):
        raise BadSample(name or str(path), reason)
    return layout.size


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded.

    Attributes:
        size: width and height of the upright image in pixels.
        orientation: EXIF's, 1 to 8; from 5 on, width and height are stored the other way round.
        mode: Pillow's name of what a pixel is.
        format: of the file, one of `phasewise.data.opening.FORMATS`.
    """

    size: tuple[int, int]
    orientation: int
    mode: str
    format: str


def image_header(path: Path, name: str | None = None) -> Header:
    """As ``image_size``, and how the image lies in its file."""
    mode = ""
    try:
        with opened(path, name) as image:
            mode = image.mode
            if image.format != "TIFF":
                orientation, (width, height) = orientation_of(image), image.size
                size = (height, width) if orientation >= 5 else (width, height)
                return Header(size, orientation, mode, str(image.format))
    except BadSample:
        if not is_tiff(path):
            raise
    return Header(image_size(path, name), 1, mode, "TIFF")  # Pillow turns TIFFs when it opens them


def mask_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """As ``image_size``, and refuses what cannot hold class indices (see ``read_mask``)."""
    with opened(path, name) as image:
        _refuse_colour_mask(image, name or str(path))
        return upright_size(image)


def read_image(path: Path, name: str | None = None, reading: Reading | None = None) -> UINT8:
    """Decode an image of any mode as upright RGB.

    Transparency is composited over white, as viewers show it. 16-bit colour keeps its upper 8 bits
    unless ``reading`` scales it. Of an animation the first frame is read.

    Args:
        path: the file.
        name: how messages call it.
        reading: what of several pages and channels is read, and which values of pixels of more than
            8 bits are black and white.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        BadSample: as ``image_size``, or it cannot be decoded (truncated, damaged), or ``reading``
            does not say how.
    """
    name, reading = name or str(path), reading or AS_IS
    layout = layout_of(path, name)
    if layout.is_plain(reading):
        with opened(path, name) as image:
            return _shown(image, layout, reading)
    array, layout = read_raw(path, name, reading)
    if reading.white is None and (array.min() < 0 or array.max() > 65535):
        raise BadSample(name, "32-bit pixels; 8 or 16 bits are needed")
    return to_rgb(array, layout, reading)


def _shown(image: Image.Image, layout: Layout, reading: Reading) -> UINT8:
    """What Pillow shows of an opened file."""
    turned = upright(image)
    if turned.mode.startswith("I"):
        return to_rgb(np.asarray(turned), layout, reading)
    if turned.has_transparency_data:
        white = Image.new("RGBA", turned.size, "white")
        turned = Image.alpha_composite(white, turned.convert("RGBA"))
    return np.array(turned.convert("RGB"))


def read_mask(path: Path, name: str | None = None) -> UINT8:
    """Decode a mask of class indices: those of a palette, or grey values, unchanged.

    Returns:
        uint8 of shape (height, width), upright; 255 means void. A 1-bit mask gives 0 and 1.

    Raises:
        BadSample: as ``read_image``; or colour, a lossy format, or values beyond 255.
    """
    with opened(path, name) as image:
        _refuse_colour_mask(image, name or str(path))
        values = np.array(upright(image))
        check_palette(image, values, name or str(path))
    if values.max() > 255 or values.min() < 0:
        raise BadSample(name or str(path), f"mask values {values.min()}..{values.max()}")
    return values.astype(np.uint8)


def check_palette(image: Image.Image, values: npt.NDArray[Any], name: str) -> None:
    """See that a mask with a palette of black and white has black for 0.

    Programs that make files smaller number the colours anew, as often as not the other way round.

    Args:
        image: opened.
        values: what its pixels hold.
        name: how messages call it.

    Raises:
        BadSample: 0 is white and the one other value black.
    """
    palette = image.getpalette("RGB") if image.mode == "P" else None
    if not palette or values.min() != 0 or len(present := np.unique(values)) != 2:
        return
    ground, other = (tuple(palette[3 * int(it) : 3 * int(it) + 3]) for it in present)
    if (ground, other) == ((255,) * 3, (0,) * 3):
        what = f"its palette has white for 0 and black for {present[1]}"
        raise BadSample(name, f"{what}: save it as grey, with 0 where nothing is")


def _refuse_colour_mask(image: Image.Image, name: str) -> None:
    """Refuse from the header what cannot be read as class indices without guessing."""
    if image.format in ("JPEG", "MPO"):
        raise BadSample(name, "a JPEG mask: compression has altered its class indices; use PNG")
    if image.mode not in ("1", "L", "P", "I;16", "I;16B", "I"):
        needed = "class indices are needed: a palette or 8-bit grey PNG"
        raise BadSample(name, f"a mask of mode {image.mode}; {needed}")
    if isinstance(image, PngImageFile) and image.tile[0].args in ("L;2", "L;4"):
        # Pillow, as the PNG standard asks, stretches these to 0..255: index 1 may become 17.
        raise BadSample(name, "2- or 4-bit grey mask; save it as palette or 8-bit grey")


@dataclass(frozen=True)
class Resize:
    """One map of pixels to a square, for an image, its mask and its boxes alike.

    Args:
        image_size: side S of the square in pixels.
        mode: ``"stretch"`` changes the aspect; ``"letterbox"`` keeps it and pads both sides.
    """

    image_size: int
    mode: str = "stretch"

    def __post_init__(self) -> None:
        if self.mode not in ("stretch", "letterbox"):
            raise UserError(f"data.resize={self.mode!r} is neither stretch nor letterbox")
        if self.image_size < 1:
            raise UserError(f"data.image_size={self.image_size} must be at least 1")

    def image(self, array: UINT8) -> UINT8:
        """(H, W, 3) -> (S, S, 3): bilinear, antialiased when shrinking; ImageNet-mean padding."""
        width, height, left, top = self._placed(array.shape[1], array.shape[0])
        small = Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR)
        square = np.empty((self.image_size, self.image_size, 3), np.uint8)
        square[:] = PADDING_COLOUR
        square[top : top + height, left : left + width] = np.asarray(small)
        return square

    def mask(self, array: npt.NDArray[Whole], padding: int = VOID) -> npt.NDArray[Whole]:
        """(H, W) -> (S, S): the source pixel under each target pixel's centre, never a mixture of
        pixels; 255 (or ``padding``) in the padding."""
        width, height, left, top = self._placed(array.shape[1], array.shape[0])
        columns = under_centres(width, array.shape[1])
        rows = under_centres(height, array.shape[0])
        square = np.full((self.image_size, self.image_size), padding, array.dtype)
        square[top : top + height, left : left + width] = array[rows[:, None], columns]
        return square

    def boxes(
        self, boxes: npt.NDArray[np.floating[Any]], size: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        """(N, 4) boxes x1, y1, x2, y2 in pixels of an image of ``size`` (width, height) -> (N, 4)
        float32 in pixels of the square."""
        width, height, left, top = self._placed(*size)
        scale = np.array([width / size[0], height / size[1]] * 2)
        return (np.asarray(boxes, np.float64) * scale + [left, top, left, top]).astype(np.float32)

    def content(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the square that show an image of ``size`` (width, height); the rest
        is padding."""
        width, height, left, top = self._placed(*size)
        return slice(top, top + height), slice(left, left + width)

    def original_boxes(
        self, boxes: npt.NDArray[np.floating[Any]], size: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """The inverse of `boxes`: (N, 4) in pixels of the square -> (N, 4) in pixels of an image of
        ``size`` (width, height); what lies in the padding is moved to the image's edge."""
        width, height, left, top = self._placed(*size)
        scale = np.array([size[0] / width, size[1] / height] * 2)
        found = (np.asarray(boxes, np.float64) - [left, top, left, top]) * scale
        return np.clip(found, 0, [*size, *size])

    def _placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Width, height, left and top of the resized content in the square, whole pixels."""
        side = self.image_size
        if self.mode == "stretch":
            return side, side, 0, 0
        longest = max(width, height)
        new_width = max(1, round(side * width / longest))
        new_height = max(1, round(side * height / longest))
        return new_width, new_height, (side - new_width) // 2, (side - new_height) // 2


def under_centres(target: int, source: int) -> npt.NDArray[np.int64]:
    """floor((i + 1/2) * source / target) for each target index i, in whole numbers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)

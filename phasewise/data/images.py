"""Reading images and masks from disk, and one resizing map for image, mask and boxes."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from phasewise.errors import BadSample, UserError

MAX_PIXELS = 100_000_000
"""Larger images are refused from the header, before a pixel is decoded."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""File names that count as images, compared in lower case."""

# A closed list: some of Pillow's other readers start programs (EPS runs Ghostscript) whatever
# the file is called.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

VOID = 255
"""Mask value of pixels without a label."""

PADDING_COLOUR = (124, 116, 104)
"""The ImageNet mean (.485, .456, .406) in 8 bits: zero after normalisation, up to rounding."""

# Pillow warns at a limit of its own, where MAX_PIXELS decides; and of broken metadata beside sound
# pixels, in words that name no file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

UINT8 = npt.NDArray[np.uint8]
Whole = TypeVar("Whole", bound=np.integer[Any])

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """Width and height of the upright image in pixels, from the header alone.

    Args:
        path: the file.
        name: how messages call it; the path if not given.

    Raises:
        BadSample: it is unreadable, not an image, or has more than ``MAX_PIXELS`` pixels.
    """
    with _opened(path, name) as image:
        return _upright_size(image)


def mask_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """As ``image_size``, and refuses what cannot hold class indices (see ``read_mask``)."""
    with _opened(path, name) as image:
        _refuse_colour_mask(image, name or str(path))
        return _upright_size(image)


def label_map_size(path: Path, name: str | None = None) -> tuple[int, int]:
    """As ``image_size``, and refuses what cannot hold whole numbers (see ``read_label_map``)."""
    with _opened(path, name) as image:
        _refuse_inexact_labels(image, name or str(path))
        return _upright_size(image)


def stored_bits(path: Path, name: str | None = None) -> tuple[int, bool]:
    """Bits per pixel and channel in the file, from the header, and whether it is colour.

    Pillow reduces 16-bit colour to its upper 8 bits.

    Raises:
        BadSample: as ``image_size``.
    """
    with _opened(path, name) as image:
        deep = image.mode.startswith("I") or ";16" in str(getattr(image, "tile", ""))
        return 16 if deep else 8, image.mode not in ("1", "L", "I", "I;16", "I;16B", "F")


def largest_grey(path: Path, name: str | None = None) -> int:
    """The largest pixel value of a grey image of 8 or 16 bits.

    Raises:
        BadSample: as ``read_image``.
    """
    with _opened(path, name) as image:
        return int(np.asarray(image).max())


def read_image(path: Path, name: str | None = None, grey_bits: int = 16) -> UINT8:
    """Decode an image of any mode as upright RGB.

    Transparency is composited over white, as viewers show it. 16-bit grey is scaled from
    ``0..2**grey_bits - 1`` to 0..255. Of several pages or frames the first is read.

    Args:
        path: the file.
        name: how messages call it; the path if not given.
        grey_bits: how many of its 16 bits a camera used, 8 to 16; brighter pixels become white.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        BadSample: as ``image_size``, or it cannot be decoded (truncated, damaged, 32-bit).
    """
    with _opened(path, name) as image:
        upright = _upright(image)
        if upright.mode.startswith("I"):
            grey = _sixteen_to_eight_bits(upright, name or str(path), 2**grey_bits - 1)
            return np.repeat(grey[..., None], 3, axis=2)
        if upright.mode == "F":
            raise BadSample(name or str(path), "floating-point pixels; 8 or 16 bits are needed")
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return np.array(upright.convert("RGB"))


def read_mask(path: Path, name: str | None = None) -> UINT8:
    """Decode a mask of class indices: those of a palette, or grey values, unchanged.

    Returns:
        uint8 of shape (height, width), upright; 255 means void. A 1-bit mask gives 0 and 1.

    Raises:
        BadSample: as ``read_image``; or colour, a lossy format, or values beyond 255.
    """
    with _opened(path, name) as image:
        _refuse_colour_mask(image, name or str(path))
        values = np.array(_upright(image))
    if values.max() > 255 or values.min() < 0:
        raise BadSample(name or str(path), f"mask values {values.min()}..{values.max()}")
    return values.astype(np.uint8)


def read_label_map(path: Path, name: str | None = None) -> tuple[npt.NDArray[np.int32], bool]:
    """Decode a mask of whole numbers: 1-bit, grey of up to 16 bits, a palette's indices, or
    colour whose three channels are equal.

    Returns:
        int32 of shape (height, width), upright, 0 to 65535, and whether the file has more than 8
        bits. Palette and grey values are unchanged, but those of 2- and 4-bit grey, which are
        stretched to 0..255.

    Raises:
        BadSample: as ``read_image``; or alpha, floating point, colour, negative values, a lossy
            format.
    """
    name = name or str(path)
    with _opened(path, name) as image:
        _refuse_inexact_labels(image, name)
        deep = image.mode.startswith("I")
        values = np.array(_upright(image)).astype(np.int32)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise BadSample(name, f"a colour mask; {_LABELS_NEEDED}")
        values = values[..., 0]
    if values.min() < 0 or values.max() > 65535:
        raise BadSample(name, f"mask values {values.min()}..{values.max()}; 0..65535 are possible")
    return values, deep


@contextmanager
def _opened(path: Path, name: str | None) -> Iterator[Image.Image]:
    """The image with only its header read; whatever goes wrong inside becomes a BadSample."""
    name = name or str(path)
    if kind := special_kind(path):
        raise BadSample(name, f"a {kind}, no regular file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadSample(name, f"{image.width}x{image.height}: {_TOO_LARGE}")
            yield image
    except (BadSample, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadSample(name, _TOO_LARGE) from None
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        reason = "the file is empty" if empty else f"not an image ({', '.join(FORMATS)})"
        raise BadSample(name, reason) from None
    except FileNotFoundError:
        raise BadSample(name, "no such file") from None
    except Exception as error:
        # Pillow's decoders raise nearly any type on damaged data: OSError, SyntaxError,
        # ValueError, struct.error, EOFError, ...
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)
        raise BadSample(name, f"cannot be decoded: {reason.splitlines()[0][:120]}") from None


_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def special_kind(path: str | Path) -> str | None:
    """What a path is that is neither a file nor a folder, in words: reading it may never end."""
    try:
        return _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return None  # opening it will tell


_TOO_LARGE = f"more pixels than the limit of {MAX_PIXELS:,}"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 as the header gives it."""
    if image.format == "TIFF":
        return 1  # Pillow applies it to the size on opening and to the pixels on loading
    try:
        # Not image.getexif(): that of PNG decodes the pixels to look for a chunk behind them.
        exif = Image.Image.getexif(image)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF beside sound pixels: viewers show the image as it lies
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    image.load()
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _sixteen_to_eight_bits(image: Image.Image, name: str, white: int) -> UINT8:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadSample(name, "32-bit pixels; 8 or 16 bits are needed")
    return np.minimum((values * 255 + white // 2) // white, 255).astype(np.uint8)


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


_LABELS_NEEDED = "an 8- or 16-bit grey, palette or 1-bit PNG or TIFF is needed"


def _refuse_inexact_labels(image: Image.Image, name: str) -> None:
    """Refuse from the header what cannot be read as whole numbers without guessing."""
    compression = image.info.get("compression") if image.format == "TIFF" else None
    if image.format in ("JPEG", "MPO", "WEBP") or compression in ("jpeg", "tiff_jpeg", "webp"):
        kind = "WebP" if "WEBP" in (image.format, str(compression).upper()) else "JPEG"
        raise BadSample(name, f"a {kind} mask: compression may have altered its values; use PNG")
    if image.mode.endswith(("A", "a")):
        raise BadSample(name, f"a mask with an alpha channel ({image.mode}); {_LABELS_NEEDED}")
    if image.mode == "F":
        raise BadSample(name, f"a mask of floating-point numbers; {_LABELS_NEEDED}")
    if image.mode not in ("1", "L", "P", "I;16", "I;16B", "I", "RGB"):
        raise BadSample(name, f"a mask of mode {image.mode}; {_LABELS_NEEDED}")
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
        # Pillow inverts these. Some programs mean the values as stored, others as shown.
        raise BadSample(name, "a TIFF mask whose 0 is white (MinIsWhite) is ambiguous; use PNG")


_PHOTOMETRIC = 262


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
        columns = _under_centres(width, array.shape[1])
        rows = _under_centres(height, array.shape[0])
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


def _under_centres(target: int, source: int) -> npt.NDArray[np.int64]:
    """floor((i + 1/2) * source / target) for each target index i, in whole numbers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)

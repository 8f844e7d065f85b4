"""How image files of several pages or channels, or of more than 8 bits, become 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import PHOTOMETRIC

from phasewise.data.opening import opened, upright, upright_size
from phasewise.data.tiff import Stack, is_tiff, opened_tiff
from phasewise.errors import BadSample

UINT8 = npt.NDArray[np.uint8]
Raw = npt.NDArray[Any]

PROJECTIONS = ("max", "mean")
"""Ways to make one page or channel of all."""


@dataclass(frozen=True)
class Reading:
    """What of a file is read, and how bright it is.

    Attributes:
        page: of a file with several, counted from 0; ``max`` or ``mean`` of them all. None: there
            must be one.
        channels: up to three, counted from 0, that become red, green and blue (one: grey); ``max``
            or ``mean`` of them all. None: there must be one (grey) or three (colour).
        black, white: values of pixels of more than 8 bits that become 0 and 255; what lies beyond
            is 0 or 255. None: 0 and 65535, for whole numbers up to there only.
    """

    page: int | str | None = None
    channels: tuple[int, ...] | str | None = None
    black: float | None = None
    white: float | None = None

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Reading:
        """As a checkpoint keeps it; older ones know only how many bits were used."""
        if (kept := info.get("reading")) is not None:
            channels = kept["channels"]
            chosen = tuple(channels) if isinstance(channels, list) else channels
            return cls(**{**kept, "channels": chosen})
        bits = info.get("grey_bits", 16)
        return cls() if bits == 16 else cls(black=0, white=2**bits - 1)

    def as_dict(self) -> dict[str, Any]:
        """In plain containers."""
        found = asdict(self)
        if isinstance(self.channels, tuple):
            found["channels"] = list(self.channels)
        return found


AS_IS = Reading()
"""One page, of one channel or three, and all 16 bits."""


@dataclass(frozen=True)
class Layout:
    """What a file holds, from its header.

    Attributes:
        size: width and height of the upright image in pixels.
        pages, channels: how many.
        rgb: whether the first three channels are colours.
        kind: of the pixels: ``8``, ``16`` (bits, none negative), ``32``, ``64`` or ``float``.
        raw: whether Pillow does not show what it holds.
    """

    size: tuple[int, int]
    pages: int = 1
    channels: int = 1
    rgb: bool = False
    kind: str = "8"
    raw: bool = False

    def is_plain(self, reading: Reading) -> bool:
        """Whether Pillow alone reads it: one picture, grey or colour, of 8 bits or 16 of grey."""
        usual = not self.raw and self.pages == 1 and self.channels == (3 if self.rgb else 1)
        scaled = reading.white is not None and (reading.black or 0, reading.white) != (0, 65535)
        deep = scaled and self.kind == ("16" if self.rgb else "32")
        exotic = self.kind in ("64", "float")
        return usual and reading.channels is None and not deep and not exotic


def layout_of(
    path: Path, name: str | None = None, check: Callable[[Image.Image], None] | None = None
) -> Layout:
    """What a file holds, from its header alone.

    Args:
        path: the file.
        name: how messages call it.
        check: called with what Pillow opened, where it shows what the file holds; raises.

    Raises:
        BadSample: see `phasewise.data.images.image_size`.
    """
    name, shown = name or str(path), None
    try:
        with opened(path, name) as image:
            shown = shown_layout(image)
            if shown is not None and check is not None:
                check(image)
            if shown is not None and not _several(image):
                return shown
    except BadSample:
        if shown is not None or not is_tiff(path):
            raise
    with opened_tiff(path, name) as stack:
        if shown is not None and stack.pages == 1:
            return shown  # the others are thumbnails, or the steps of a pyramid
        rgb = stack.rgb and stack.channels >= 3
        return Layout(stack.size, stack.pages, stack.channels, rgb, _kind(stack.dtype), True)


def shown_layout(image: Image.Image) -> Layout | None:
    """What an opened file holds; None of a TIFF with more than Pillow shows.

    Other pages do not count here.
    """
    if image.format == "TIFF" and _odd(image):
        return None
    colour = image.mode not in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
    deep = image.mode.startswith("I") or ";16" in str(getattr(image, "tile", ""))
    return Layout(upright_size(image), 1, 3 if colour else 1, colour, "16" if deep else "8")


def _several(image: Image.Image) -> bool:
    """Whether a TIFF holds several pictures; of an animation the first is the image."""
    return image.format == "TIFF" and getattr(image, "n_frames", 1) > 1


def _odd(image: Image.Image) -> bool:
    assert isinstance(image, TiffImageFile)
    args = image.tile[0].args if image.tile else ""
    stored = str(args[0] if isinstance(args, tuple) else args)
    hidden = "X" in stored and stored != "RGBX"
    # Pillow maps uncompressed pixels from the disk as if those of a turned image lay turned.
    turned = image.tag_v2.get(ExifTags.Base.Orientation, 1) >= 5
    mapped = turned and image.mode != "RGB" and image.tile[0].codec_name == "raw"
    return hidden or mapped or image.mode in ("F", "I")


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "float"
    if dtype.kind not in "bu":
        return "64" if dtype.itemsize > 4 else "32"  # signed
    return {1: "8", 2: "16", 4: "32"}.get(dtype.itemsize, "64")


def refusal(layout: Layout, reading: Reading, *, keys: bool = False) -> str:
    """Why a file is not read so, in words; empty if it is.

    Args:
        layout: of the file.
        reading: what of it is read.
        keys: whether there are ``data.page`` and ``data.channels`` to say it.
    """
    alone = "save what is meant as a file of its own"
    if layout.pages > 1 and reading.page is None:
        way = f"data.page=0 ... {layout.pages - 1}, max or mean says what to read"
        return f"{layout.pages} pages; {way if keys else alone}"
    if isinstance(reading.page, int) and reading.page >= layout.pages:
        return f"data.page={reading.page}, of {layout.pages} page(s), counted from 0"
    channels = reading.channels
    if channels is None and layout.channels > (4 if layout.rgb else 1):
        way = f"data.channels=[0] ... [{layout.channels - 1}], up to three of them, max or mean"
        return f"{layout.channels} channels; {f'{way} says which to read' if keys else alone}"
    if isinstance(channels, tuple) and max(channels) >= layout.channels:
        return f"data.channels={list(channels)}, of {layout.channels} channel(s), counted from 0"
    if layout.kind in ("64", "float") and reading.white is None:
        what = "floating-point" if layout.kind == "float" else "64-bit"
        return f"{what} pixels; 8 or 16 bits are needed"
    return ""


def read_raw(path: Path, name: str, reading: Reading) -> tuple[Raw, Layout]:
    """The pixels that are read of a file, as stored.

    Returns:
        (H, W) or (H, W, 2 or 3), upright, of the file's own type; of projections by ``mean``,
        float64. And what the file holds.

    Raises:
        BadSample: it cannot be read so.
    """
    layout = layout_of(path, name)
    if reason := refusal(layout, reading):
        raise BadSample(name, reason)
    if layout.is_plain(reading) or not is_tiff(path):
        with opened(path, name) as image:
            if layout.kind == "16" and layout.rgb and isinstance(image, PngImageFile):
                array = deep_png(image, path, name)
            else:
                array = np.asarray(_grey_or_rgb(upright(image)))
        return _channels(array if array.ndim == 3 else array[..., None], reading, layout), layout
    with opened_tiff(path, name) as stack:
        return _channels(_page(stack, reading.page), reading, layout), layout


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB") or image.mode.startswith("I"):
        return image
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")


def deep_png(image: PngImageFile, path: Path, name: str) -> Raw:
    """16-bit colour, (H, W, 3) uint16, upright. Pillow itself gives the upper 8 bits only.

    Its decoder for the other order of bytes gives the lower ones.
    """
    high = np.asarray(upright(image)).astype(np.uint16)
    with opened(path, name) as again:
        assert isinstance(again, PngImageFile)
        args = again.tile[0].args
        if args != "RGB;16B":
            return high[..., :3] * 257  # with alpha
        again.tile = [again.tile[0]._replace(args="RGB;16L")]
        return high * 256 + np.asarray(upright(again))


def _page(stack: Stack, page: int | str | None) -> Raw:
    """(H, W, channels)"""
    shown = PHOTOMETRIC(stack.series.keyframe.photometric)
    if shown not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        what = shown.name
        raise BadSample(stack.name, f"a TIFF of this kind with {what} pixels; save it as grey")
    if not isinstance(page, str):
        return stack.page(page or 0)
    found = stack.page(0)
    for index in range(1, stack.pages):
        other = stack.page(index)
        found = np.maximum(found, other) if page == "max" else found + other.astype(np.float64)
    return found / stack.pages if page == "mean" else found


def _channels(array: Raw, reading: Reading, layout: Layout) -> Raw:
    """Those chosen of (H, W, C)."""
    channels = reading.channels
    if isinstance(channels, str):
        return array.max(axis=2) if channels == "max" else array.mean(axis=2)
    if channels is None:
        channels = (0, 1, 2) if layout.rgb else (0,)
    chosen = array[..., list(channels)]
    return chosen[..., 0] if len(channels) == 1 else chosen


def to_rgb(array: Raw, layout: Layout, reading: Reading) -> UINT8:
    """8-bit RGB of the pixels of `read_raw`.

    Args:
        array: (H, W) or (H, W, 2 or 3); of two channels, blue stays 0.
        layout: of the file.
        reading: gives black and white.

    Returns:
        uint8 of shape (H, W, 3).
    """
    if layout.kind == "8":
        scaled = np.floor(array + 0.5).astype(np.uint8) if array.dtype.kind == "f" else array
    else:
        black = reading.black or 0.0
        white = 65535.0 if reading.white is None else reading.white
        share = (array.astype(np.float64) - black) / (white - black)
        scaled = np.floor(np.clip(np.nan_to_num(share), 0, 1) * 255 + 0.5)
    scaled = np.asarray(scaled).astype(np.uint8)
    if scaled.ndim == 2:
        return np.repeat(scaled[..., None], 3, axis=2)
    if scaled.shape[2] == 2:
        scaled = np.concatenate([scaled, np.zeros_like(scaled[..., :1])], axis=2)
    return np.ascontiguousarray(scaled)

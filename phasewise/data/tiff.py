"""TIFFs that Pillow does not read as they are: several pages, channels, 32 and 64 bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPageSeries

from phasewise.data.opening import MAX_PIXELS, TOO_LARGE, special_kind, undecodable
from phasewise.errors import BadSample

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFFs begin, those beyond 4 GB included."""

MAX_VALUES = 16 * MAX_PIXELS
"""Of all pages and channels of a file."""

# It logs what is odd in a file, in words that name none; what matters is raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

Raw = npt.NDArray[Any]


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFFs do."""
    if special_kind(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) in MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class Stack:
    """The pictures of the first series of an opened TIFF.

    Attributes:
        series: it.
        path, name: the file, and how messages call it.
        pages: how many, channels apart.
        channels: of each page.
        rgb: whether the first three channels are declared to be red, green and blue.
        size: width and height of the upright image.
        dtype: of the pixels.
    """

    series: TiffPageSeries
    path: Path
    name: str
    pages: int
    channels: int
    rgb: bool
    size: tuple[int, int]
    dtype: np.dtype[Any]

    def page(self, index: int) -> Raw:
        """A page, (H, W, channels), upright."""
        lead = self._lead()
        if "C" not in lead:
            return self._turned(self._plane(index))
        axis = lead.index("C")
        shape = self.series.shape[: len(lead)]
        others = shape[:axis] + shape[axis + 1 :]
        place = tuple(np.unravel_index(index, others)) if others else ()
        planes = [
            self._plane(int(np.ravel_multi_index((*place[:axis], channel, *place[axis:]), shape)))
            for channel in range(shape[axis])
        ]
        return self._turned(np.concatenate(planes, axis=2))

    def _lead(self) -> str:
        """The axes by which the file has several pictures, as ImageJ names them: ``ZC``."""
        return str(self.series.axes[: -len(self.series.keyframe.axes)])

    def _plane(self, index: int) -> Raw:
        """(H, W, samples) as stored."""
        axes = self.series.keyframe.axes
        if len(self.series.pages) != prod(self.series.shape[: len(self._lead())]):
            # ImageJ writes stacks beyond 4 GB behind the header of the first page
            whole = self.series.asarray().reshape(-1, *self.series.keyframe.shape)
            found = whole[index]
        else:
            page = self.series.pages[index]
            if page is None:
                raise BadSample(self.name, f"page {index} is missing")
            try:
                found = page.asarray()
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                found = self._by_pillow(page.index)
        if "S" not in axes:
            return found[..., None]
        return found if axes.endswith("S") else np.moveaxis(found, axes.index("S"), -1)

    def _by_pillow(self, index: int) -> Raw:
        """A page whose compression (LZW, JPEG) only Pillow knows, as stored."""
        samples = self.series.keyframe.samplesperpixel
        kind = COMPRESSION(self.series.keyframe.compression).name
        with Image.open(self.path, formats=("TIFF",)) as image:
            image.seek(index)
            # Pillow turns what it decodes; `page` turns again unless there is nothing to turn.
            plain = image.mode in ("L", "I;16", "I;16B", "F", "RGB")
            if not plain or len(image.getbands()) != samples or _orientation(self.series) != 1:
                reason = f"{samples} channels compressed by {kind}; save it uncompressed"
                raise BadSample(self.name, reason)
            return np.array(image)

    def _turned(self, array: Raw) -> Raw:
        turn = _orientation(self.series)
        if turn >= 5:
            array = array.swapaxes(0, 1)
        if turn in (3, 4, 7, 8):
            array = array[::-1]
        return array[:, ::-1] if turn in (2, 3, 6, 7) else array


@contextmanager
def opened_tiff(path: Path, name: str) -> Iterator[Stack]:
    """The pictures of a TIFF, only headers read; what goes wrong becomes a BadSample."""
    if kind := special_kind(path):
        raise BadSample(name, f"a {kind}, no regular file")
    try:
        # Files that others name (OME's) are not opened.
        with TiffFile(path, _multifile=False) as file:
            yield _stack(file.series[0], path, name)
    except (BadSample, MemoryError):
        raise
    except Exception as error:  # of any type, as from Pillow
        raise undecodable(name, error) from None


def _stack(series: TiffPageSeries, path: Path, name: str) -> Stack:
    if series.axes[-len(series.keyframe.axes) :] != series.keyframe.axes:
        raise BadSample(name, f"a TIFF of axes {series.axes}; one picture a page is needed")
    sizes = dict(zip(series.axes, series.shape, strict=True))
    width, height = sizes.pop("X"), sizes.pop("Y")
    channels = sizes.pop("S", 1) * sizes.pop("C", 1)
    pages = prod(sizes.values())
    if width * height > MAX_PIXELS or width * height * channels * pages > MAX_VALUES:
        raise BadSample(name, f"{width}x{height}, {pages} pages of {channels}: {TOO_LARGE}")
    size = (height, width) if _orientation(series) >= 5 else (width, height)
    rgb = series.keyframe.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    return Stack(series, path, name, pages, channels, rgb, size, np.dtype(series.dtype))


def _orientation(series: TiffPageSeries) -> int:
    tag = series.keyframe.tags.get("Orientation")
    return int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1

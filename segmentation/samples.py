"""One sample of a folder of images and masks: what its mask means, its tiles, its arrays."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasewise.data.images import PADDING_COLOUR, UINT8, VOID, Resize, read_image
from phasewise.data.reading import AS_IS, Reading
from phasewise.errors import BadSample, UserError
from phasewise.records.content import mark
from segmentation.masks import MaskValues, objects_of, read_mask_values
from segmentation.meaning import AUTO, MAX_OBJECTS, Instances, Meaning, binary_mask

CACHE_BYTES = 256 * 2**20
"""Decoded images that are kept while their tiles are cut take about this much at most."""


@dataclass(frozen=True)
class Sample:
    """An image and its mask, or a tile of them.

    Attributes:
        name: the image's file name without its extension; of a tile ``name@left,top``.
        image, mask: files.
        instances: file with the number of the object that each pixel belongs to, if there is one.
        size: width and height of the whole upright image in pixels.
        tile: left, top, right, bottom in its pixels; what lies beyond the image is padding. None =
            the whole image.
        seen: columns from the left and rows from the top of the tile that earlier ones cover; they
            are void, so that each pixel counts once.
        files: the mask and others of the image, where each holds one object.
        reading: see `phasewise.data.images.read_image`.
        meaning: of the values of the mask.
    """

    name: str
    image: Path
    mask: Path
    instances: Path | None
    size: tuple[int, int]
    tile: tuple[int, int, int, int] | None = None
    seen: tuple[int, int] = (0, 0)
    files: tuple[Path, ...] = ()
    reading: Reading = AS_IS
    meaning: Meaning = AUTO

    @property
    def paths(self) -> tuple[Path | None, ...]:
        """All its files."""
        return (self.image, self.mask, self.instances, *self.files[1:])


def values_of(sample: Sample, name: Callable[[Path], str]) -> MaskValues:
    """The values of a sample's mask, decoded; of files with an object each, its number.

    Args:
        sample: it.
        name: how messages call a file.

    Raises:
        BadSample: a file cannot be used.
    """
    page = sample.reading.page
    if not sample.files:
        return read_mask_values(sample.mask, name(sample.mask), page)
    parts = [read_mask_values(path, name(path), page) for path in sample.files]
    return objects_of(parts, [name(path) for path in sample.files], "file")


def read_binary_mask(
    path: Path, name: str, meaning: Meaning = AUTO, page: int | str | None = None
) -> tuple[UINT8, Instances | None]:
    """Decode a mask as foreground and ground, and as objects if it tells them apart.

    Args:
        path: the file.
        name: how messages call it.
        meaning: of its values.
        page: see `segmentation.masks.read_mask_values`.

    Returns:
        See `segmentation.meaning.binary_mask`.

    Raises:
        BadSample: as `read_mask_values` and `binary_mask`.
    """
    return binary_mask(read_mask_values(path, name, page), meaning, name)


# --- tiles ------------------------------------------------------------------------------------


def tile(samples: list[Sample], tile_size: int, overlap: float) -> list[Sample]:
    """Cut samples into squares that cover every pixel; the last of a row or column moves inwards.

    Without overlap every pixel counts once: those of a square that moved inwards over others are
    void there. With overlap (for training) none are. An image that is smaller than a square gives
    one in that direction, padded at the right or bottom. An object that is cut by the edge of a
    tile is one in each of its tiles.

    Args:
        samples: whole images.
        tile_size: side of the squares in pixels of the image, at least 1.
        overlap: least share of the side that neighbours have in common, 0 <= share < 1.

    Raises:
        UserError: a number out of range.
    """
    if tile_size < 1:
        raise UserError(f"data.tile_size={tile_size} must be at least 1")
    if not 0 <= overlap < 1:
        raise UserError(f"data.tile_overlap={overlap} must be at least 0 and below 1")
    tiles = []
    for sample in samples:
        columns = _starts(sample.size[0], tile_size, overlap)
        rows = _starts(sample.size[1], tile_size, overlap)
        for j, top in enumerate(rows):
            for i, left in enumerate(columns):
                box = (left, top, left + tile_size, top + tile_size)
                seen = (0, 0)
                if not overlap:
                    seen = (i * tile_size - left, j * tile_size - top)
                name = f"{sample.name}@{left},{top}"
                tiles.append(replace(sample, name=name, tile=box, seen=seen))
    return tiles


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """First pixels of the squares along a side of the image."""
    if length <= side:
        return [0]
    stride = max(1, int(side * (1 - overlap)))
    count = 1 + ceil((length - side) / stride)
    return [min(i * stride, length - side) for i in range(count)]


# --- arrays -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decoded:
    image: UINT8
    mask: UINT8
    instances: Instances | None

    @property
    def nbytes(self) -> int:
        arrays = (self.image, self.mask, self.instances)
        return sum(array.nbytes for array in arrays if array is not None)


def load(
    sample: Sample,
    root: Path,
    resize: Resize,
    min_area: int,
    min_distance: int,
    *,
    objects: bool = True,
) -> dict[str, NDArray[Any]]:
    """The arrays of a sample, at the size S of ``resize``. May be called from several threads.

    Objects are those of the file of instances, else those of a mask that tells them apart, else
    those that `segmentation.objects.split_objects` finds in the resized mask. Numbers of objects
    are those of the whole image, so they may have gaps; void pixels belong to none.

    Args:
        sample: what to load.
        root: file names in messages are relative to it.
        resize: to the size of the store.
        min_area, min_distance: see `split_objects`.
        objects: whether ``instances`` is wanted.

    Returns:
        ``image`` uint8 (3, S, S), ``mask`` uint8 (S, S) of 0, 1 and 255, and ``instances`` int16
        (S, S).

    Raises:
        BadSample: a file cannot be used.
    """

    def decode() -> _Decoded:
        return _decode(sample, root, objects)

    if sample.tile is None:
        decoded = decode()
    else:
        last = sample.tile[2] >= sample.size[0] and sample.tile[3] >= sample.size[1]
        files = [_state(path) for path in sample.paths]
        decoded = _cut(
            _KEPT.get(repr((files, sample.reading, sample.meaning, objects)), decode, last), sample
        )
    mask = resize.mask(decoded.mask)
    arrays: dict[str, NDArray[Any]] = {
        "image": np.ascontiguousarray(resize.image(decoded.image).transpose(2, 0, 1)),
        "mask": mask,
    }
    if not objects:
        return arrays
    if decoded.instances is None:
        arrays["instances"] = _split(mask, min_area, min_distance, sample.name)
    else:
        instances = resize.mask(decoded.instances, padding=0)
        instances[mask == VOID] = 0
        arrays["instances"] = instances
    return arrays


def _state(path: Path | None) -> tuple[Any, ...]:
    """A file as it is now; one that is gone is `_decode`'s to refuse."""
    with suppress(OSError):
        return () if path is None else (path, *mark(path))
    return (path,)


def _split(mask: UINT8, min_area: int, min_distance: int, name: str) -> Instances:
    from segmentation.objects import split_objects

    found = split_objects(mask == 1, min_area=min_area, min_distance=min_distance)
    if found.max(initial=0) > MAX_OBJECTS:
        raise BadSample(name, f"{found.max():,} objects; {MAX_OBJECTS:,} are possible")
    return found.astype(np.int16)


def _decode(sample: Sample, root: Path, objects: bool) -> _Decoded:
    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    image = read_image(sample.image, name(sample.image), sample.reading)
    page = sample.reading.page
    mask, instances = binary_mask(values_of(sample, name), sample.meaning, name(sample.mask))
    if objects and sample.instances is not None:
        _, instances = read_binary_mask(
            sample.instances, name(sample.instances), Meaning("instances"), page
        )
    for path, array in ((sample.mask, mask), (sample.instances, instances)):
        if path is not None and array is not None and array.shape != image.shape[:2]:
            raise BadSample(name(path), "another size than its image")
    return _Decoded(image, mask, instances if objects else None)


def _cut(whole: _Decoded, sample: Sample) -> _Decoded:
    """The tile, padded where it reaches beyond the image, void where an earlier tile was."""
    assert sample.tile is not None
    left, top, right, bottom = sample.tile
    shape = (bottom - top, right - left)
    window = (slice(top, bottom), slice(left, right))
    inside = whole.mask[window]
    height, width = inside.shape
    image = np.empty((*shape, 3), np.uint8)
    image[:] = PADDING_COLOUR
    image[:height, :width] = whole.image[window]
    mask = np.full(shape, VOID, np.uint8)
    mask[:height, :width] = inside
    mask[:, : sample.seen[0]] = VOID
    mask[: sample.seen[1]] = VOID
    if whole.instances is None:
        return _Decoded(image, mask, None)
    instances = np.zeros(shape, np.int16)
    instances[:height, :width] = whole.instances[window]
    return _Decoded(image, mask, instances)


class _Kept:
    """The images decoded last, each decoded once however many threads want it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Future[_Decoded]] = OrderedDict()

    def get(self, key: str, decode: Callable[[], _Decoded], last: bool) -> _Decoded:
        """The decoded image; ``last``: nobody will ask again, so that it need not be kept."""
        with self._lock:
            found = self._entries.get(key)
            mine = found is None
            future: Future[_Decoded] = Future() if found is None else found
            self._entries[key] = future
            self._entries.move_to_end(key)
        if mine:
            try:
                future.set_result(decode())
            except BaseException as error:
                future.set_exception(error)
        try:
            return future.result()
        finally:
            self._shrink(key if last else None)

    def _shrink(self, done: str | None) -> None:
        with self._lock:
            if done is not None:
                self._entries.pop(done, None)
            sizes = {
                key: 0 if future.exception() else future.result().nbytes
                for key, future in self._entries.items()
                if future.done()
            }
            total = sum(sizes.values())
            # The one used last stays whatever its size: its tiles come one after another.
            for key in list(sizes)[:-1]:
                if total > CACHE_BYTES:
                    total -= sizes[key]
                    del self._entries[key]


_KEPT = _Kept()

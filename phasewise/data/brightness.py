"""Which values of pixels of more than 8 bits are black and white: one decision for a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from phasewise.data.reading import Layout, Raw, Reading, read_raw
from phasewise.errors import BadSample

BITS = (8, 10, 12, 14, 16)
"""How many a camera may have used."""

OUTSIDE = 1e-4
"""The share of the pixels at either end that may be hot or dead ones."""

LEVELS = 32
"""Of the 256, so many must be left for all pixels but those."""

FEW = 16
"""98 % of the pixels in fewer levels are told."""

SAMPLED = 64
"""So many images are decoded to know how values are spread; the largest is that of them all."""

MOST_VALUES = 2**18
"""Of an image of floating-point or signed pixels, about so many are looked at."""


@dataclass(frozen=True)
class Range:
    """What is shown as black and as white, and why, in words (empty: nothing to tell)."""

    black: float
    white: float
    reason: str


def range_of(files: Sequence[tuple[Path, Layout]], reading: Reading) -> Range | None:
    """Black and white of a set of images that are shown alike.

    0 and the smallest 2**n - 1 (n of `BITS`; of floating-point pixels up to 1, 1) that no pixel is
    above, if that leaves `LEVELS` of the 256 to all but the brightest and darkest `OUTSIDE`. Else
    the smallest that only these are above. Else their own ends: the percentiles 0.01 and 99.99 of
    the set.

    Args:
        files: those of more than 8 bits that can be read, by `phasewise.data.reading.layout_of`.
        reading: which pages and channels.

    Returns:
        None without such files.
    """
    marks = []
    for path, layout in files:
        try:
            found = path.stat()
        except OSError:
            continue  # decoding will tell
        marks.append((path, layout.kind, layout.rgb, found.st_size, found.st_mtime_ns))
    return _range_once(tuple(marks), reading) if marks else None


@lru_cache(maxsize=8)
def _range_once(
    marks: tuple[tuple[Path, str, bool, int, int], ...], reading: Reading
) -> Range | None:
    """Kept for the next run in this process: a sweep lists its data for every trial."""
    paths = [path for path, *_ in marks]
    step = ceil(len(paths) / SAMPLED)
    sampled = paths[::step]
    seen = _Seen()
    with ThreadPoolExecutor() as pool:
        for part in pool.map(lambda path: _part(path, reading), sampled):
            seen.add(part)
        if not seen.number:
            return None
        lowest, highest = seen.quantiles(OUTSIDE)
        chosen = _chosen(lowest, highest, highest, seen.floats)
        others = [path for i, path in enumerate(paths) if i % step]
        rest = pool.map(lambda path: _largest(path, reading), others)
        for largest in rest:
            seen.largest = max(seen.largest, largest)
            if seen.largest >= 2 ** BITS[-2]:
                pool.shutdown(wait=False, cancel_futures=True)
                break  # all 16 bits are used, or these are outliers: more change nothing
    found = _chosen(lowest, highest, seen.largest, seen.floats) or chosen
    black, white = found or (lowest, max(highest, lowest + 1))
    return Range(black, white, _reason(marks, seen, (lowest, highest), (black, white)))


def _chosen(lowest: float, highest: float, top: float, floats: bool) -> tuple[float, float] | None:
    """0 and what holds ``top``, if that leaves enough levels from lowest to highest."""
    whites = [*((1.0,) if floats else ()), *(2.0**bits - 1 for bits in BITS)]
    white = next((white for white in whites if top <= white), None)
    if white is None or lowest < 0:
        return None
    few = lowest < highest and (highest - lowest) / white * 255 < LEVELS
    return None if few else (0.0, white)


class _Part(NamedTuple):
    """The pixels of an image: counts by value, or some of their values."""

    values: Raw
    counted: bool
    floats: bool
    largest: float
    least: float


@dataclass
class _Seen:
    """How the values of a set are spread."""

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(65536, np.int64))
    others: list[Raw] = field(default_factory=list)
    largest: float = -np.inf
    least: float = np.inf
    floats: bool = False

    def add(self, part: _Part | None) -> None:
        """An image."""
        if part is None:
            return
        self.floats = self.floats or part.floats
        self.largest = max(self.largest, part.largest)
        self.least = min(self.least, part.least)
        if part.counted:
            self.counts += part.values
        else:
            self.others.append(part.values)

    @property
    def number(self) -> int:
        """Of pixels that were looked at."""
        return int(self.counts.sum()) + sum(map(len, self.others))

    def quantiles(self, share: float) -> tuple[float, float]:
        """The values that at most ``share`` of the pixels are below, and above."""
        present = np.flatnonzero(self.counts)
        values = np.concatenate([present, *self.others])
        weights = np.concatenate([self.counts[present], *(np.ones(len(it)) for it in self.others)])
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        upto = np.cumsum(weights)
        out = share * upto[-1]
        low = int(np.argmax(upto > out))
        high = int(np.argmax(upto >= upto[-1] - out))
        return float(values[low]), float(values[high])


def _values(path: Path, reading: Reading) -> Raw | None:
    try:
        array, _ = read_raw(path, path.name, replace(reading, black=0, white=1))
    except BadSample:
        return None  # decoding will tell
    flat = array.ravel()
    return flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat


def _part(path: Path, reading: Reading) -> _Part | None:
    """Little enough that those of all images fit into memory."""
    array = _values(path, reading)
    if array is None or not array.size:
        return None
    floats, ends = array.dtype.kind == "f", (float(array.max()), float(array.min()))
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return _Part(np.bincount(array, minlength=65536), True, floats, *ends)
    some = array[:: ceil(array.size / MOST_VALUES)].astype(np.float64)
    return _Part(some, False, floats, *ends)


def _largest(path: Path, reading: Reading) -> float:
    array = _values(path, reading)
    return -np.inf if array is None or not array.size else float(array.max())


def _reason(
    marks: Sequence[tuple[Any, ...]],
    seen: _Seen,
    ends: tuple[float, float],
    shown: tuple[float, float],
) -> str:
    kinds = {(kind, rgb) for _, kind, rgb, *_ in marks}
    what = "of more than 8 bits"
    if len(kinds) == 1:
        kind, rgb = kinds.pop()
        word = "floating-point" if kind == "float" else f"{kind}-bit"
        what = f"{word} {'colour' if rgb else 'grey'}"
    few = _few(seen, shown)
    interval = f"{shown[0]:.6g}..{shown[1]:.6g}"
    if shown[0] == 0 and seen.largest <= shown[1]:
        if shown[1] == 65535:
            if what == "16-bit colour":
                return f"{what}, of which the upper 8 bits are used{few}"
            return few and what + few
        told = f"the largest value of all is {seen.largest:.6g}"
        return f"{what}; {told}, so {interval} is shown as black to white{few}"
    told = f"all but 0.02 % of their pixels lie in {ends[0]:.6g}..{ends[1]:.6g}"
    reach = f"they reach from {seen.least:.6g} to {seen.largest:.6g}"
    way = "data.intensity=[BLACK,WHITE] says otherwise"
    return f"{what}; {told} ({reach}), so {interval} is shown as black to white{few}; {way}"


def _few(seen: _Seen, shown: tuple[float, float]) -> str:
    low, high = seen.quantiles(0.01)
    levels = round((high - low) / (shown[1] - shown[0]) * 255) + 1
    if levels >= FEW or low == high:
        return ""
    return f", and 98 % of the pixels fall into {levels} of 256 levels"

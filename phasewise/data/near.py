"""Images that look alike, whatever they are called: copies that were scaled, mirrored, turned,
compressed, or made brighter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from phasewise.data.images import read_image
from phasewise.errors import BadSample

SIDE = 9
"""Of the thumbnails, in pixels: 8 differences along each row and each column."""

MOST_BITS = 24
"""Of the 144 bits of two hashes so many may differ: of unrelated images half of them do."""

LEAST_CORRELATION = 0.94
"""Of the grey values of two thumbnails. Hashes of images that are flat but for a small object are
all alike; these are not."""

CHUNK = 1024

Grey = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


def near_duplicates(images: Mapping[str, Path]) -> dict[str, str]:
    """Groups of images that look alike, chains of such included.

    A difference hash (N. Krawetz, "Kind of like that", 2013) of grey thumbnails, over rows and
    columns, finds pairs, in any of the eight ways to mirror and turn them; the correlation of the
    thumbnails decides. Every image is decoded.

    Args:
        images: files by name. One that cannot be decoded is alone.

    Returns:
        The group of each name that looks like another; it is called as its first name.
    """
    with ThreadPoolExecutor() as pool:
        thumbnails = list(pool.map(_thumbnail_of, images.values()))
    names = [name for name, one in zip(images, thumbnails, strict=True) if one is not None]
    found = np.array([one for one in thumbnails if one is not None], np.float32)
    if len(names) < 2:
        return {}
    labels = _components(found)
    first: dict[int, str] = {}
    groups = {n: first.setdefault(int(label), n) for n, label in zip(names, labels, strict=True)}
    alone = set(first.values()) - {group for name, group in groups.items() if name != group}
    return {name: group for name, group in groups.items() if group not in alone}


def near_across(thumbnails: Mapping[str, Grey]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Images of one split that look like one of another, compared as in `near_duplicates`.

    Args:
        thumbnails: of splits, float32 (N, SIDE, SIDE), see `thumbnails_of`.

    Returns:
        By pair of splits, for each row of the second with a look-alike in the first: one of these,
        and it. Pairs of splits without such are missing.
    """
    found = {}
    for first, second in combinations(thumbnails, 2):
        pairs: dict[int, int] = {}
        for i, j in _alike(thumbnails[first], thumbnails[second]):
            for one, other in zip(i.tolist(), j.tolist(), strict=True):
                pairs.setdefault(other, one)
        if pairs:
            found[first, second] = sorted((one, other) for other, one in pairs.items())
    return found


def _alike(first: Grey, second: Grey) -> Iterator[tuple[Index, Index]]:
    """Rows of two sets of thumbnails that look alike, the second in any of eight ways."""
    hashes, standard = _hashes(first), _standard(first)
    least = hashes.shape[1] - 2 * MOST_BITS
    for way in range(8):
        turned = _turned(second, way)
        others, other = _hashes(turned), _standard(turned)
        for start in range(0, len(hashes), CHUNK):
            i, j = np.nonzero(hashes[start : start + CHUNK] @ others.T >= least)
            i += start
            alike = np.einsum("nk,nk->n", standard[i], other[j]) >= LEAST_CORRELATION
            yield i[alike], j[alike]


def thumbnails_of(images: Tensor) -> Grey:
    """Grey thumbnails of square images.

    Args:
        images: uint8 (N, 3, S, S), perhaps mapped from a file.

    Returns:
        float32 (N, SIDE, SIDE), 0..255.
    """
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # of Pillow's "L": ITU-R 601-2
    parts = [
        adaptive_avg_pool2d((part.float() * weights).sum(1), SIDE) for part in images.split(256)
    ]
    return torch.cat(parts).numpy() if parts else np.zeros((0, SIDE, SIDE), np.float32)


def _turned(thumbnails: Grey, way: int) -> Grey:
    """In one of the eight ways to mirror and turn them."""
    turned = np.rot90(thumbnails, way % 4, (1, 2))
    return turned[:, :, ::-1] if way >= 4 else turned


def _components(thumbnails: Grey) -> npt.NDArray[np.int32]:
    """A number for each of the thumbnails (N, SIDE, SIDE), the same for those that look alike."""
    hashes, standard = _hashes(thumbnails), _standard(thumbnails)
    least = hashes.shape[1] - 2 * MOST_BITS
    rows, columns = [], []
    for way in range(8):
        turned = _turned(thumbnails, way)
        others, other = _hashes(turned), _standard(turned)
        for start in range(0, len(hashes), CHUNK):
            i, j = np.nonzero(hashes[start : start + CHUNK] @ others[start:].T >= least)
            later = j > i
            i, j = i[later] + start, j[later] + start
            alike = np.einsum("nk,nk->n", standard[i], other[j]) >= LEAST_CORRELATION
            rows.append(i[alike])
            columns.append(j[alike])
    i, j = np.concatenate(rows), np.concatenate(columns)
    pairs = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(hashes), len(hashes)))
    labels: npt.NDArray[np.int32] = connected_components(pairs, directed=False)[1]
    return labels


def _hashes(thumbnails: Grey) -> Grey:
    """(N, SIDE, SIDE) to (N, 144): 1 where the second of two neighbours is brighter, else -1.

    As numbers, so that one product of matrices counts the bits that differ, in all pairs.
    """
    along = thumbnails[:, :, 1:] > thumbnails[:, :, :-1]
    down = thumbnails[:, 1:] > thumbnails[:, :-1]
    bits = np.concatenate([one.reshape(len(thumbnails), -1) for one in (along, down)], 1)
    return np.where(bits, np.float32(1), np.float32(-1))


def _standard(thumbnails: Grey) -> Grey:
    """(N, SIDE, SIDE) to (N, SIDE²) of mean 0 and length 1; of a flat one, zeros."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    centred = flat - flat.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > SIDE, centred / np.maximum(length, 1), 0).astype(np.float32)


def _thumbnail_of(path: Path) -> Grey | None:
    try:
        found = path.stat()
        return _thumbnail(path, found.st_size, found.st_mtime_ns)
    except (BadSample, OSError):
        return None  # decoding will tell


@lru_cache(maxsize=100_000)
def _thumbnail(path: Path, size: int, modified: int) -> Grey:
    """Kept for the next run in this process: a sweep lists its data for every trial."""
    grey = Image.fromarray(read_image(path)).convert("F")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)

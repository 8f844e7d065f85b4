"""Retrieval scores from features: distances block by block, in double precision.

Two things make the ranking exact where single-precision matrix products are not:

* Products are accumulated in double precision. It costs less than the sorting, is untouched by
  TF32 and autocast, and its error (about 1e-15 of the squared norms) is far below what float32
  features can tell apart.
* A matrix product may round the same sum differently in different columns. Gallery rows with
  identical features are therefore found beforehand and given one and the same distance: they tie,
  and ties go by gallery index.

Memory does not depend on the number of queries or gallery images, but for a few numbers per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from phasewise.errors import DivergedError
from reid.ranking import (
    AveragePrecision,
    Ints,
    OnEmpty,
    Relevance,
    Tally,
    check_choice,
    check_options,
    count_before,
)

Distance = Literal["euclidean", "cosine"]


def joined(features: Sequence[Tensor], kind: Distance) -> Tensor:
    """Features (N, E) of several networks behind each other, so that distances add up.

    Their spaces have nothing in common, so that a mean of features would mean nothing. Each is of
    length 1 where the distance is the cosine.
    """
    if len(features) == 1:
        return features[0]
    if kind == "cosine":
        features = [normalize(part) for part in features]
    return torch.cat(list(features), 1)


_PRODUCT = 2**19  # elements of gallery features in double precision at a time (4 MB)
_SCORES = 2**21  # distances at a time (16 MB)
_QUERIES = 256


class NotFiniteError(DivergedError, ValueError):
    """Features hold NaN or infinity: they cannot be ranked."""


class Space:
    """Distances to fixed features, in an order-preserving form.

    Args:
        features: ``(G, D)``, real, on any device.
        distance: ``euclidean`` or ``cosine``. A zero vector has cosine 0 with everything.

    Raises:
        NotFiniteError: if a feature is NaN or infinite.
        ValueError: if the shape or the distance is not allowed.
    """

    def __init__(self, features: Tensor, distance: Distance) -> None:
        check_choice("distance", distance, get_args(Distance))
        self.features = _real(features)
        self.cosine = distance == "cosine"
        self.norms = squared_norms(self.features)
        self._step = max(1, _PRODUCT // max(1, self.features.shape[1]))
        # Buffers are made once: big ones that come and go leave holes in the heap.
        self._block = self._doubles(min(self._step, len(self)), self.features.shape[1])
        self._out = self._doubles(0)

    def __len__(self) -> int:
        return len(self.features)

    def _doubles(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device=self.features.device)

    def scores(self, queries: Tensor, rows: slice | Tensor) -> NDArray[np.float64]:
        """Distances of queries ``(n, D)`` to some features, in a form that keeps their order.

        Euclidean: squared. Cosine: times the query's norm. Rounding may leave them a little below
        zero. The next call overwrites the result.

        Returns:
            ``(n, m)``.
        """
        norms = self.norms[rows]
        queries = queries.to(self.features.device).double()
        size = len(queries) * len(norms)
        if self._out.numel() < size:
            self._out = self._doubles(size)
        out = self._out[:size].view(len(queries), len(norms))
        for start in range(0, len(norms), self._step):
            part = slice(start, start + self._step)
            block = self._block[: len(norms[part])]
            if isinstance(rows, slice):
                block.copy_(self.features[rows][part])
            else:
                block.copy_(self.features[rows[part]])
            if self.cosine:
                block /= norms[part].sqrt().clamp_min(torch.finfo(torch.float64).tiny)[:, None]
                torch.mm(queries, block.T, out=out[:, part]).neg_()
            else:
                torch.addmm(norms[part], queries, block.T, alpha=-2, out=out[:, part])
        own = queries.square().sum(1, keepdim=True)
        out += own.sqrt() if self.cosine else own
        return out.cpu().numpy()


def _real(features: Tensor) -> Tensor:
    if features.ndim != 2:
        raise ValueError(f"features must be (images, channels), not {tuple(features.shape)}")
    features = features.detach()
    if features.device.type == "mps":  # it has no double precision
        features = features.cpu()
    return features if features.dtype in (torch.float32, torch.float64) else features.float()


def squared_norms(features: Tensor) -> Tensor:
    """Squared norms ``(N,)`` of features ``(N, D)`` in double precision.

    Raises:
        NotFiniteError: if one is not finite.
    """
    step = max(1, _PRODUCT // max(1, features.shape[1]))
    found = features.new_empty(len(features), dtype=torch.float64)
    for start in range(0, len(features), step):
        found[start : start + step] = features[start : start + step].double().square().sum(1)
    bad = int((~found.isfinite()).sum())
    if bad:
        raise NotFiniteError(f"features of {bad} of {len(found)} images hold NaN or infinity")
    return found


def first_equal(features: Tensor) -> Ints:
    """For each row of ``(N, D)``, the index of the first row that is identical to it.

    Rows are hashed (a random linear form of their bits), and rows of the same hash compared.
    """
    size = features.shape[1] * features.element_size() // 4
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (size,), generator=generator) | 1
    factors = factors.to(features.device)
    step = max(1, _PRODUCT // max(1, size))
    hashes = factors.new_zeros(len(features))
    for start in range(0, len(features) if size else 0, step):
        block = features[start : start + step] + 0.0  # a negative zero becomes zero
        bits = block.contiguous().view(torch.int32).long()
        hashes[start : start + step] = bits.mul_(factors).sum(1)
    _, first, inverse = np.unique(hashes.cpu().numpy(), return_index=True, return_inverse=True)
    found: Ints = first[inverse]
    repeated = np.flatnonzero(found != np.arange(len(found)))
    for start in range(0, len(repeated), step):
        rows = repeated[start : start + step]
        same = (features[_index(rows, features)] == features[_index(found[rows], features)]).all(1)
        rows = rows[~same.cpu().numpy()]
        found[rows] = rows
    return found


def _index(rows: Ints, features: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(features.device)


def rank_from_features(
    query_features: Tensor,
    gallery_features: Tensor,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    max_rank: int = 50,
    average_precision: AveragePrecision = "hits",
    *,
    distance: Distance = "euclidean",
    query_images: Any = None,
    gallery_images: Any = None,
    on_empty: OnEmpty = "error",
) -> dict[str, Tensor]:
    """Retrieval scores from features; no matrix of distances is kept.

    Args:
        query_features: ``(Q, D)``, real, on the gallery's device.
        gallery_features: ``(G, D)``.
        query_ids: and all further arguments: see `reid.ranking.rank_from_distances`.
        gallery_ids: see there.
        query_cameras: see there.
        gallery_cameras: see there.
        max_rank: see there.
        average_precision: see there.
        distance: ``euclidean`` or ``cosine``.
        query_images: see there.
        gallery_images: see there.
        on_empty: see there.

    Returns:
        The scores, see there.

    Raises:
        NoValidQueryError: a ValueError; if no query has anything to find.
        NotFiniteError: a ValueError; if a feature is NaN or infinite.
        ValueError: if shapes, types or options are wrong.
    """
    relevance = Relevance(
        query_ids, gallery_ids, query_cameras, gallery_cameras, query_images, gallery_images
    )
    check_options(max_rank, average_precision, on_empty)
    tally = Tally(len(relevance), max_rank, average_precision)
    rank_blocks(query_features, gallery_features, distance, relevance, tally)
    return tally.scores(relevance, on_empty)


@torch.no_grad()
def rank_blocks(
    queries: Tensor, gallery: Tensor, distance: Distance, relevance: Relevance, tally: Tally
) -> None:
    """Enter queries into the tally by their features ``(Q, D)`` and the gallery's ``(G, D)``.

    Raises:
        NotFiniteError: a ValueError; if a feature is NaN or infinite.
        ValueError: if shapes or the distance are wrong.
    """
    space = Space(gallery, distance)
    queries = _real(queries)
    counts = len(relevance), len(relevance.gallery_ids)
    if (len(queries), len(space)) != counts:
        raise ValueError(
            f"there are features of {len(queries)} queries and {len(space)} gallery images, but "
            f"{counts[0]} query ids and {counts[1]} gallery ids"
        )
    if all(counts) and queries.shape[1] != space.features.shape[1]:
        raise ValueError(
            f"query features have {queries.shape[1]} channels, gallery features "
            f"{space.features.shape[1]}"
        )
    squared_norms(queries)  # are they finite?
    equal = first_equal(space.features)
    for chunk in _chunks(relevance):
        _rank_chunk(chunk, queries, space, equal, relevance, tally)


def _chunks(relevance: Relevance) -> Iterator[list[int]]:
    """Valid queries, some at a time, those of one identity together.

    So few gallery images are right for any of a chunk that their distances can be kept.
    """
    chunk: list[int] = []
    right, last = 0, None
    for query in np.argsort(relevance.query_ids, kind="stable").tolist():
        same = len(relevance.same_id(query))
        more = 0 if relevance.query_ids[query] == last else same
        if chunk and (len(chunk) == _QUERIES or (right + more) * (len(chunk) + 1) > _SCORES):
            yield chunk
            chunk, right, more = [], 0, same
        if len(relevance.split(query)[0]):
            chunk.append(query)
            right, last = right + more, relevance.query_ids[query]
    if chunk:
        yield chunk


def _rank_chunk(
    chunk: list[int],
    queries: Tensor,
    space: Space,
    equal: Ints,
    relevance: Relevance,
    tally: Tally,
) -> None:
    """Count, stretch by stretch of the gallery, what stands before the right images."""
    features = queries[torch.tensor(chunk, device=queries.device)]
    positives, ignored = zip(*(relevance.split(query) for query in chunk), strict=True)
    right = np.unique(equal[np.concatenate(positives)])
    of_right = space.scores(features, _index(right, space.features)).copy()
    values = [of_right[i, np.searchsorted(right, equal[p])] for i, p in enumerate(positives)]
    before = [np.zeros(len(p), np.int64) for p in positives]
    step = max(1, _SCORES // len(chunk))
    for start in range(0, len(space), step):
        scores = space.scores(features, slice(start, start + step))
        _same_scores(scores, of_right, right, equal[start : start + step])
        for i in range(len(chunk)):
            before[i] += count_before(scores[i], start, values[i], positives[i], ignored[i])
    for query, counts in zip(chunk, before, strict=True):
        tally.add(query, counts + 1)


def _same_scores(
    scores: NDArray[np.float64], of_right: NDArray[np.float64], right: Ints, equal: Ints
) -> None:
    """Give gallery images that are identical to a right one its scores, to the last bit."""
    place = np.searchsorted(right, equal).clip(max=len(right) - 1)
    columns = np.flatnonzero(right[place] == equal)
    scores[:, columns] = of_right[:, place[columns]]

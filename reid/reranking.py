"""k-reciprocal re-ranking: distances that also ask whether two images have the same neighbours.

Zhong et al. 2017, "Re-ranking Person Re-identification with k-reciprocal Encoding". Their code
keeps several matrices of (queries + gallery) squared; here only neighbour lists are kept, and
distances are computed some rows at a time. The time still grows with that square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

from reid.distances import Distance, Space, first_equal
from reid.ranking import Ints

_DISTANCES = 2**21  # at a time (16 MB)
_ROWS = 2048  # of the sparse products at a time
_FEATURES = 2**20  # of pairs of images at a time (4 MB)


@dataclass(frozen=True)
class ReRanking:
    """The settings of `reranked_rows`.

    Args:
        k1: how many neighbours are asked whether they are mutual, >= 1.
        k2: over how many neighbours the encodings are averaged, >= 1; 1 averages nothing.
        original_weight: share of the original distance in the final one, in [0, 1]; the rest is
            the Jaccard distance. The paper's lambda.

    Raises:
        ValueError: if a setting is out of range.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.original_weight <= 1:
            raise ValueError(
                f"re-ranking needs k1 >= 1, k2 >= 1 and original_weight in [0, 1], not {self}"
            )


def k_reciprocal_distances(
    query_features: Tensor,
    gallery_features: Tensor,
    settings: ReRanking | None = None,
    distance: Distance = "euclidean",
) -> Tensor:
    """The re-ranked distances ``(Q, G)`` as one float32 matrix; see `reranked_rows`."""
    settings = settings or ReRanking()
    found = np.empty((len(query_features), len(gallery_features)), np.float32)
    for query, row in reranked_rows(query_features, gallery_features, settings, distance):
        found[query] = row
    return torch.from_numpy(found)


@torch.no_grad()
def reranked_rows(
    query_features: Tensor,
    gallery_features: Tensor,
    settings: ReRanking,
    distance: Distance = "euclidean",
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Re-ranked distances, query by query.

    The original distance is the squared Euclidean one over its maximum in the query's row, all
    queries and gallery images taken together, as in the paper's code. For ``cosine`` features are
    normalised first, so that it is twice the cosine distance before that division.

    Args:
        query_features: ``(Q, D)``, real.
        gallery_features: ``(G, D)``, on the same device.
        settings: how.
        distance: ``euclidean`` or ``cosine``.

    Yields:
        The query's index and its distances ``(G,)``, in [0, 1].

    Raises:
        NotFiniteError: a ValueError; if a feature is NaN or infinite.
        ValueError: if shapes or options are wrong.
    """
    points = torch.cat([query_features, gallery_features]).detach().float()
    space = Space(points, distance)  # checks both
    if distance == "cosine":
        space = Space(normalize(points, dim=1), "euclidean")
    points, queries = space.features, len(query_features)
    equal = first_equal(points)
    neighbours, farthest = _neighbours(space, equal, max(settings.k1 + 1, settings.k2))
    encodings = _encode(neighbours[:, : settings.k1 + 1], points, farthest, settings.k1)
    if settings.k2 > 1:
        encodings = _average(neighbours[:, : settings.k2], encodings)
    columns = encodings[queries:].tocsc()
    encodings = encodings[:queries]
    for query, row in _squared_rows(space, equal, queries):
        jaccard = _jaccard(encodings[[query]], columns)
        share = settings.original_weight
        yield query, (1 - share) * jaccard + share * row[queries:] / farthest[query]


def _squared_rows(
    space: Space, equal: Ints, count: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Squared distances of the first ``count`` points to all; identical points tie exactly."""
    step = max(1, _DISTANCES // max(1, len(space)))
    copies = np.flatnonzero(equal != np.arange(len(equal)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        scores = space.scores(space.features[start:stop], slice(None))
        scores[:, copies] = scores[:, equal[copies]]
        yield from enumerate(scores.clip(min=0, out=scores), start)


def _neighbours(
    space: Space, equal: Ints, count: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The nearest ``count`` points of each (all, if there are fewer), and its largest distance.

    A point is its own first neighbour, whatever coincides with it. Ties go by index.
    """
    count = min(count, len(space))
    nearest = np.empty((len(space), count), np.int32)
    farthest = np.empty(len(space))
    for i, row in _squared_rows(space, equal, len(space)):
        farthest[i] = row.max()
        row[i] = -1
        within = np.flatnonzero(row <= np.partition(row, count - 1)[count - 1])
        nearest[i] = within[np.argsort(row[within], kind="stable")[:count]]
    return nearest, np.maximum(farthest, np.finfo(np.float64).tiny)  # all points may be one


def _rows_to_matrix(columns: NDArray[np.int32]) -> Any:
    """A sparse 0/1 matrix (N, N) whose rows have ones in the given columns ``(N, k)``."""
    size, count = columns.shape
    starts = np.arange(size + 1) * count
    return sparse.csr_array((np.ones(size * count, np.int32), columns.ravel(), starts), (size,) * 2)


def _mutual(neighbours: NDArray[np.int32]) -> Any:
    """A 0/1 matrix of which pairs are neighbours of each other."""
    directed = _rows_to_matrix(neighbours)
    return directed.multiply(directed.T).tocsr()


def _encode(
    neighbours: NDArray[np.int32], points: Tensor, farthest: NDArray[np.float64], k1: int
) -> Any:
    """Each point as weights over its mutual neighbours, which sum to 1: sparse ``(N, N)``.

    The mutual neighbours of a mutual neighbour, among half as many, join them if more than two
    thirds of them are there already.
    """
    mutual = _mutual(neighbours)
    half = _mutual(neighbours[:, : round(k1 / 2) + 1])
    sizes = np.diff(half.indptr)
    blocks = []
    for start in range(0, len(neighbours), _ROWS):
        own = mutual[start : start + _ROWS]
        shared = (own @ half.T).multiply(own).tocsr()
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        members = (own + shared @ half).tocsr()
        members.eliminate_zeros()
        members.sort_indices()
        rows = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
        squared = _pair_distances(points, rows + start, members.indices)
        weights = np.exp(-squared / farthest[rows + start])
        sums = np.bincount(rows, weights, minlength=members.shape[0])
        members.data = (weights / sums[rows]).astype(np.float32)
        blocks.append(members)
    return sparse.vstack(blocks, format="csr")


def _pair_distances(points: Tensor, first: Ints, second: Ints) -> NDArray[np.float64]:
    """Squared Euclidean distances of pairs of points."""
    step = max(1, _FEATURES // max(1, points.shape[1]))
    found = np.empty(len(first))
    for start in range(0, len(first), step):
        pairs = [torch.from_numpy(i[start : start + step]).long() for i in (first, second)]
        one, other = (points[pair.to(points.device)] for pair in pairs)
        found[start : start + step] = (one - other).square().sum(1).cpu().numpy()
    return found


def _average(neighbours: NDArray[np.int32], encodings: Any) -> Any:
    """Each encoding becomes the mean of those of its nearest points."""
    chosen = _rows_to_matrix(neighbours).astype(np.float32)
    return (chosen / np.float32(neighbours.shape[1])).tocsr() @ encodings


def _jaccard(encoding: Any, columns: Any) -> NDArray[np.float64]:
    """Jaccard distances of a query's encoding ``(1, N)`` to the gallery's, given by columns.

    Both sum to 1, so that the union is 2 less the intersection.
    """
    starts, ends = columns.indptr[encoding.indices], columns.indptr[encoding.indices + 1]
    counts = ends - starts
    skipped = np.repeat(starts - (counts.cumsum() - counts), counts)
    entries = np.arange(len(skipped)) + skipped
    smaller = np.minimum(np.repeat(encoding.data, counts), columns.data[entries])
    shared = np.bincount(columns.indices[entries], smaller, minlength=columns.shape[0])
    return 1 - shared / (2 - shared)

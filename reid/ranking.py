"""From distances to scores: where the right gallery images stand in each query's ranked list.

The rules, for every query: gallery images of the same identity AND the same camera are left out, so
is the query's own image where it is known, and so is junk (id -1); a query with nothing left to
find does not count. Equal distances are ranked by gallery index.

No ranked list is ever made. An image's rank is one more than the number of images before it, so
per query the values are sorted once and the right images looked up in them: nothing of the size
queries x gallery is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasewise.errors import UserError

AveragePrecision = Literal["hits", "trapezoid"]
OnEmpty = Literal["error", "nan"]
Ints = NDArray[np.int64]
Floats = NDArray[Any]

JUNK = -1
"""The id of gallery images that are neither right nor wrong (Market-1501's bad boxes)."""

_FEW_GROUPS = 64  # up to here, scanning a row for each tied value is quicker than sorting it stably


class NoValidQueryError(UserError, ValueError):
    """No query has a gallery image to find: every score is undefined."""


class Relevance:
    """Which gallery images are right for a query, and which do not count.

    Args:
        query_ids: identities ``(Q,)``, integers.
        gallery_ids: identities ``(G,)``; -1 is junk. Any id that no query has, such as
            Market-1501's distractors (0), is simply wrong.
        query_cameras: cameras ``(Q,)``, or None: no image is left out for its camera.
        gallery_cameras: cameras ``(G,)``, given if and only if ``query_cameras`` are.
        query_images: numbers of the images ``(Q,)``, or None. A gallery image of the same number
            is the query itself and is left out.
        gallery_images: the same of the gallery ``(G,)``.

    Raises:
        ValueError: if the lengths or types disagree, or only one of a pair is given.
    """

    def __init__(
        self,
        query_ids: Any,
        gallery_ids: Any,
        query_cameras: Any = None,
        gallery_cameras: Any = None,
        query_images: Any = None,
        gallery_images: Any = None,
    ) -> None:
        self.query_ids = _integers("query_ids", query_ids)
        self.gallery_ids = _integers("gallery_ids", gallery_ids)
        self.cameras = self._pair("cameras", query_cameras, gallery_cameras)
        self.images = self._pair("images", query_images, gallery_images)
        self._junk = np.flatnonzero(self.gallery_ids == JUNK)
        known = self.query_ids != JUNK
        self._same_id = _Groups(self.query_ids, self.gallery_ids, known)
        self._same_image = _Groups(*self.images) if self.images else None

    def __len__(self) -> int:
        return len(self.query_ids)

    def _pair(self, name: str, query: Any, gallery: Any) -> tuple[Ints, Ints] | None:
        if query is None and gallery is None:
            return None
        if query is None or gallery is None:
            raise ValueError(f"query_{name} and gallery_{name}: give both or none")
        pair = _integers(f"query_{name}", query), _integers(f"gallery_{name}", gallery)
        wanted = len(self.query_ids), len(self.gallery_ids)
        if (len(pair[0]), len(pair[1])) != wanted:
            raise ValueError(
                f"query_{name} and gallery_{name} have {len(pair[0])} and {len(pair[1])} entries, "
                f"but there are {wanted[0]} query ids and {wanted[1]} gallery ids"
            )
        return pair

    def same_id(self, query: int) -> Ints:
        """The gallery images of the query's identity, ascending; none if it is junk."""
        return self._same_id[query]

    def split(self, query: int) -> tuple[Ints, Ints]:
        """The gallery images to be found, ascending, and those that do not count, in no order."""
        positives = self._same_id[query]
        ignored = self._junk
        if self._same_image is not None and self.images is not None:
            itself = self._same_image[query]
            ignored = np.concatenate([ignored, itself])
            positives = positives[self.images[1][positives] != self.images[0][query]]
        if self.cameras is not None:
            same = self.cameras[1][positives] == self.cameras[0][query]
            ignored = np.concatenate([ignored, positives[same]])
            positives = positives[~same]
        return positives, ignored

    def why_nothing_counts(self) -> str:
        """One sentence for `NoValidQueryError`."""
        if not len(self.query_ids):
            return "No query can be evaluated: there are no queries."
        unknown = sum(not len(self.same_id(i)) for i in range(len(self)))
        return (
            f"No query can be evaluated: of {len(self)} queries, {unknown} have an id that no "
            f"gallery image has, and {len(self) - unknown} find only images of their own camera "
            "or themselves. Each query needs a gallery image of the same id from another camera; "
            "if cameras do not matter, leave them out (exclude_same_camera=False)."
        )


class _Groups:
    """The gallery indices that share a value with a query; none for queries to be passed over."""

    def __init__(self, query: Ints, gallery: Ints, known: NDArray[np.bool_] | None = None) -> None:
        self._order = np.argsort(gallery, kind="stable")
        values = gallery[self._order]
        first = np.searchsorted(values, query, "left")
        last = np.searchsorted(values, query, "right")
        self._first = first.tolist()
        self._last = (last if known is None else np.where(known, last, first)).tolist()

    def __getitem__(self, query: int) -> Ints:
        return self._order[self._first[query] : self._last[query]]


def _integers(name: str, values: Any) -> Ints:
    found = torch.as_tensor(values)
    if found.ndim != 1 or (found.is_floating_point() and len(found)):
        raise ValueError(
            f"{name} must be one integer per image, not {found.dtype} of shape {tuple(found.shape)}"
        )
    return found.cpu().numpy().astype(np.int64, copy=False)


def count_before(row: Floats, offset: int, values: Floats, positions: Ints, ignored: Ints) -> Ints:
    """How many images of a stretch of the gallery stand before each of some gallery images.

    Images are ordered by distance, then by gallery index. The row is sorted in single precision,
    twice as quick as in double; what single precision cannot tell apart is compared as given.

    Args:
        row: distances of one query ``(n,)`` to the gallery images ``offset .. offset + n - 1``;
            NaN is not allowed.
        offset: gallery index of the first.
        values: distances of the images in question ``(k,)``, k > 0, of the row's type. Those that
            are in this stretch have exactly the row's value.
        positions: their gallery indices ``(k,)``.
        ignored: gallery indices that do not count, of the whole gallery.

    Returns:
        Counts ``(k,)``.
    """
    with np.errstate(over="ignore"):  # infinity is a tie like any other
        single, wanted = row.astype(np.float32), values.astype(np.float32)
    inside = (ignored >= offset) & (ignored < offset + len(row))
    single[ignored[inside] - offset] = np.nan
    ordered = np.sort(single[single <= wanted.max()])
    before = np.searchsorted(ordered, wanted, "left")
    equal = np.searchsorted(ordered, wanted, "right") - before
    itself = (positions >= offset) & (positions < offset + len(row))
    tied = np.flatnonzero(equal > itself)
    if not len(tied):
        return before
    groups = np.unique(wanted[tied])
    if len(groups) > _FEW_GROUPS:
        kept = np.flatnonzero(~np.isnan(single))
        return _count_exactly(row[kept], kept + offset, values, positions)
    for value in groups:
        among = np.flatnonzero(single == value)
        mine = tied[wanted[tied] == value]
        before[mine] += _count_exactly(row[among], among + offset, values[mine], positions[mine])
    return before


def _count_exactly(row: Floats, indices: Ints, values: Floats, positions: Ints) -> Ints:
    """As `count_before`, of images whose indices are given and ascend, in full precision."""
    order = np.argsort(row, kind="stable")
    ordered, indices = row[order], indices[order]
    before = np.searchsorted(ordered, values, "left")
    after = np.searchsorted(ordered, values, "right")
    for i in range(len(values)):
        before[i] += np.searchsorted(indices[before[i] : after[i]], positions[i])
    return before


class Tally:
    """What is kept of each query, and the scores in the end.

    Args:
        queries: their number.
        max_rank: length of the CMC curve.
        average_precision: ``hits`` is the mean, over the right images, of the precision at their
            ranks. ``trapezoid`` takes the mean of that precision and the one just before the hit
            (1 at the top of the list), as the scripts of VeRi-776 and Market-1501 do; it is lower.

    Raises:
        ValueError: if an argument is not one of the allowed ones.
    """

    def __init__(self, queries: int, max_rank: int, average_precision: AveragePrecision) -> None:
        check_options(max_rank, average_precision)
        self.max_rank = max_rank
        self._trapezoid = average_precision == "trapezoid"
        self._first = np.zeros(queries, np.int64)  # 0: does not count
        self._precision = np.zeros(queries)
        self._inverse_penalty = np.zeros(queries)

    def add(self, query: int, ranks: Ints) -> None:
        """Keep a query whose right images have these ranks ``(k,)``, from 1, in any order, k > 0.

        The inverse negative penalty is k over the last rank (Ye et al. 2021, "Deep Learning for
        Person Re-identification: A Survey and Outlook", mINP).
        """
        ranks = np.sort(ranks)
        found = np.arange(1, len(ranks) + 1)
        precision = found / ranks
        if self._trapezoid:
            just_before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
            precision = (precision + just_before) / 2
        self._first[query] = ranks[0]
        self._precision[query] = precision.mean()
        self._inverse_penalty[query] = len(ranks) / ranks[-1]

    def queries(self) -> dict[str, NDArray[Any]]:
        """``average_precision``, ``inverse_penalty`` and ``first_rank`` (0: does not count) of each
        query."""
        return {
            "average_precision": self._precision,
            "inverse_penalty": self._inverse_penalty,
            "first_rank": self._first,
        }

    def scores(self, relevance: Relevance, on_empty: OnEmpty) -> dict[str, Tensor]:
        """See `rank_from_distances`."""
        valid = self._first > 0
        if not valid.any() and on_empty == "error":
            raise NoValidQueryError(relevance.why_nothing_counts())
        first = self._first[valid]
        within = np.bincount(np.minimum(first, self.max_rank + 1), minlength=self.max_rank + 2)
        found = {
            "mAP": _mean(self._precision[valid]),
            "mINP": _mean(self._inverse_penalty[valid]),
            **{f"rank{n}": _mean(first <= n) for n in (1, 5, 10)},
        }
        scores = {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
        counts = torch.from_numpy(within[1:-1].cumsum()).double()
        scores["cmc"] = counts / valid.sum()  # of no query: 0 / 0 is NaN
        scores["valid_queries"] = torch.tensor(int(valid.sum()))
        return scores


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def check_options(
    max_rank: int, average_precision: AveragePrecision, on_empty: OnEmpty = "error"
) -> None:
    """Raise ValueError if an option is not one of the allowed ones."""
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, not {max_rank}")
    check_choice("average_precision", average_precision, get_args(AveragePrecision))
    check_choice("on_empty", on_empty, get_args(OnEmpty))


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ValueError if a value is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def rank_rows(rows: Iterable[tuple[int, Floats]], relevance: Relevance, tally: Tally) -> None:
    """Enter queries into the tally by their distances to the whole gallery.

    Args:
        rows: query index and distances ``(G,)``; queries that are missing do not count.
        relevance: what is right.
        tally: where the ranks go.

    Raises:
        ValueError: if a distance is NaN.
    """
    for query, row in rows:
        if len(row) and np.isnan(row.max()):
            raise ValueError(f"distances of query {query} hold NaN, which has no rank")
        positives, ignored = relevance.split(query)
        if len(positives):
            before = count_before(row, 0, row[positives], positives, ignored)
            tally.add(query, before + 1)


def rank_from_distances(
    distances: Tensor | NDArray[Any],
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    max_rank: int = 50,
    average_precision: AveragePrecision = "hits",
    *,
    query_images: Any = None,
    gallery_images: Any = None,
    on_empty: OnEmpty = "error",
) -> dict[str, Tensor]:
    """Retrieval scores from a matrix of distances.

    Args:
        distances: ``(Q, G)``, on any device, of any real type; smaller is nearer. Infinity is
            allowed, NaN is not. The matrix is neither changed nor copied as a whole.
        query_ids: identities ``(Q,)``, integers; tensors, arrays or lists.
        gallery_ids: identities ``(G,)``; -1 is junk, which is neither right nor wrong.
        query_cameras: cameras ``(Q,)``, or None: no gallery image is left out for its camera.
        gallery_cameras: cameras ``(G,)``, or None.
        max_rank: length of the CMC curve. Where the gallery is shorter, the curve stays at its
            last value.
        average_precision: ``hits`` or ``trapezoid``, see `Tally`.
        query_images: numbers of the images ``(Q,)``, or None. A gallery image of the same number
            is the query itself and is left out, whatever its camera.
        gallery_images: numbers of the images ``(G,)``, or None.
        on_empty: without a valid query, ``error`` raises and ``nan`` makes every score NaN.

    Returns:
        ``mAP``, ``mINP``, ``rank1``, ``rank5``, ``rank10``: means over the valid queries, in
        [0, 1]; ``cmc`` ``(max_rank,)``: share of valid queries with a right image at rank 1, 2, ...
        or before; ``valid_queries``: their number. Double precision (the last: int64), on the CPU.

    Raises:
        NoValidQueryError: a ValueError; if no query has anything to find.
        ValueError: if shapes, types or options are wrong, or a distance is NaN.
    """
    relevance = Relevance(
        query_ids, gallery_ids, query_cameras, gallery_cameras, query_images, gallery_images
    )
    matrix = torch.as_tensor(distances).detach()
    if matrix.shape != (len(relevance), len(relevance.gallery_ids)):
        raise ValueError(
            f"distances have shape {tuple(matrix.shape)}, but there are {len(relevance)} query ids "
            f"and {len(relevance.gallery_ids)} gallery ids"
        )
    check_options(max_rank, average_precision, on_empty)
    tally = Tally(len(relevance), max_rank, average_precision)
    rank_rows(_rows(matrix), relevance, tally)
    return tally.scores(relevance, on_empty)


def _rows(matrix: Tensor, elements: int = 2**20) -> Iterator[tuple[int, Floats]]:
    """The rows of a matrix as arrays of float32 or float64, some at a time off their device."""
    step = max(1, elements // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step].cpu()
        if block.dtype not in (torch.float32, torch.float64):
            block = block.float() if block.is_floating_point() else block.double()
        yield from enumerate(block.numpy(), start)

"""Retrieval scores as a torchmetrics metric: mAP, mINP, rank-n and the CMC curve."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from reid.distances import Distance, NotFiniteError, rank_blocks, rank_from_features
from reid.ranking import (
    JUNK,
    AveragePrecision,
    NoValidQueryError,
    OnEmpty,
    Relevance,
    Tally,
    check_choice,
    check_options,
    rank_from_distances,
    rank_rows,
)
from reid.reranking import ReRanking, reranked_rows

__all__ = [
    "JUNK",
    "NoValidQueryError",
    "NotFiniteError",
    "ReRanking",
    "ReidRetrieval",
    "mirrored_mean",
    "rank_from_distances",
    "rank_from_features",
]

Labels = NDArray[np.int64]

_COLUMNS = ("ids", "is_query", "cameras", "index", "image_ids", "given")
_OPTIONAL = ("cameras", "index", "image_ids")


class ReidRetrieval(Metric):
    """mAP, mINP, rank-1, rank-5, rank-10 and CMC of queries against a gallery.

    A query looks for the gallery images of its identity by other cameras; what counts, and how ties
    are broken, says `reid.ranking`. Call ``update``, not ``forward``: a batch alone has no scores.
    ``compute`` gives ``mAP``, ``mINP``, ``rank1``, ``rank5`` and ``rank10``, fractions from 0 to 1,
    means over the queries that have something to find; ``valid_queries``, how many these are; and
    ``cmc`` (max_rank,), the share of them with a right image at rank 1, 2, ... or before.

    >>> import torch
    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    >>> metric = ReidRetrieval("cosine", max_rank=3)
    >>> metric.update(
    ...     features,  # (B, D); of any number of batches
    ...     ids=torch.tensor([7, 8, 7, 8, 7]),
    ...     cameras=torch.tensor([0, 0, 1, 1, 2]),
    ...     is_query=torch.tensor([True, True, False, False, False]),
    ... )
    >>> found = metric.compute()
    >>> round(float(found["mAP"]), 4), float(found["rank1"])
    (0.6667, 0.5)
    >>> [round(share, 4) for share in found["cmc"].tolist()]
    [0.5, 1.0, 1.0]

    Features stay where the metric is (``compute_on_cpu=True`` moves them), in float32, and
    ``compute`` copies them once.

    In a process group each process updates with its own share, which may be empty; ``compute``
    gathers them by broadcasts of known sizes (no pickling) and gives the same scores everywhere.
    With ``index`` they do not depend on how the images were shared out, and images that a sampler
    repeated count once; without it, ties are broken by process and order of update.

    Args:
        distance: ``euclidean`` or ``cosine``.
        max_rank: length of the CMC curve; it is continued where the gallery is shorter.
        average_precision: ``hits``, or ``trapezoid`` as VeRi-776's own script has it (lower).
        exclude_same_camera: leave out gallery images of the query's id and camera. Without
            cameras, only those with the query's ``image_ids`` are left out.
        reranking: re-rank by k-reciprocal neighbours; None: do not. Junk takes no part.
        on_empty: without a valid query, ``error`` raises and ``nan`` makes every score NaN.

    Attributes:
        queries: of the last `compute`, an array each: their ``index`` and what
            `reid.ranking.Tally.queries` has.

    Raises:
        ValueError: if an option is not allowed.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    features: list[Tensor]
    rows: list[Tensor]

    def __init__(
        self,
        distance: Distance = "euclidean",
        max_rank: int = 50,
        average_precision: AveragePrecision = "hits",
        exclude_same_camera: bool = True,
        reranking: ReRanking | None = None,
        on_empty: OnEmpty = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("distance", distance, get_args(Distance))
        check_options(max_rank, average_precision, on_empty)
        self.distance = distance
        self.max_rank = max_rank
        self.average_precision: AveragePrecision = average_precision
        self.exclude_same_camera = exclude_same_camera
        self.reranking = reranking
        self.on_empty: OnEmpty = on_empty
        self.add_state("features", [], dist_reduce_fx=None)
        self.add_state("rows", [], dist_reduce_fx=None)
        self.queries: dict[str, NDArray[Any]] = {}

    def update(
        self,
        features: Tensor,
        ids: Tensor,
        cameras: Tensor | None = None,
        is_query: Tensor | bool | None = None,
        index: Tensor | None = None,
        image_ids: Tensor | None = None,
    ) -> None:
        """Add images.

        Args:
            features: ``(B, D)``, real.
            ids: identities ``(B,)``, integers; -1 in the gallery is junk, which does not count.
            cameras: ``(B,)``, integers, or None.
            is_query: bool ``(B,)``, or one for all, never None: a query, else a gallery image. An
                image that is both is added twice, once as each.
            index: the image's place ``(B,)`` among the queries or in the gallery, or None: the
                order of ties, and how repeated images are known.
            image_ids: a number of the image ``(B,)``, or None; a query and the gallery image of
                the same number are the same image.

        Raises:
            ValueError: if shapes or types are wrong.
        """
        if features.ndim != 2 or not features.is_floating_point():
            raise ValueError(
                f"features must be real (images, channels), not {features.dtype} of shape "
                f"{tuple(features.shape)}"
            )
        size, device = len(features), features.device
        if isinstance(is_query, bool):
            is_query = torch.full((size,), is_query)
        if is_query is None or is_query.dtype != torch.bool:
            raise ValueError("is_query must tell by bools which images are queries")
        if self.features and features.shape[1] != self.features[0].shape[1]:
            raise ValueError(
                f"features have {features.shape[1]} channels, those of earlier updates "
                f"{self.features[0].shape[1]}"
            )
        values = dict(zip(_COLUMNS, (ids, is_query, cameras, index, image_ids), strict=False))
        given = sum(2**i for i, name in enumerate(_OPTIONAL) if values[name] is not None)
        rows = torch.zeros(size, len(_COLUMNS), dtype=torch.int64, device=device)
        for column, name in enumerate(_COLUMNS[:-1]):
            value = values[name]
            if value is not None:
                _check_labels(name, value, size)
                rows[:, column] = value.to(device)
        rows[:, -1] = given
        self.features.append(features.detach().float())
        self.rows.append(rows)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far, see `reid.ranking.rank_from_distances`; on the CPU.

        Raises:
            NoValidQueryError: a ValueError; if no query has anything to find and ``on_empty`` is
                ``error``.
            NotFiniteError: a ValueError; if a feature is NaN or infinite.
            ValueError: if updates do not go together.
        """
        labels = _columns(self.rows)
        used = _given(labels["given"])
        queries = _in_order(labels, np.flatnonzero(labels["is_query"] == 1), "index" in used)
        gallery = _in_order(labels, np.flatnonzero(labels["is_query"] == 0), "index" in used)
        if self.reranking:
            gallery = gallery[labels["ids"][gallery] != JUNK]
        if not self.exclude_same_camera:
            used.discard("cameras")
        relevance = Relevance(
            *(
                labels[name][chosen] if name in used else None
                for name in ("ids", "cameras", "image_ids")
                for chosen in (queries, gallery)
            )
        )
        tally = Tally(len(relevance), self.max_rank, self.average_precision)
        features = self._select(queries), self._select(gallery)
        if self.reranking and len(queries) and len(gallery):
            rows = reranked_rows(*features, self.reranking, self.distance)
            rank_rows(rows, relevance, tally)
        else:
            rank_blocks(*features, self.distance, relevance, tally)
        self.queries = {"index": labels["index"][queries], **tally.queries()}
        return tally.scores(relevance, self.on_empty)

    def _select(self, chosen: Labels) -> Tensor:
        """Features of chosen images in that order, copied once."""
        sizes = {part.shape[1] for part in self.features if len(part)}
        if len(sizes) > 1:
            raise ValueError(f"features differ in their number of channels: {sorted(sizes)}")
        total = sum(len(part) for part in self.features)
        place = torch.full((total,), -1)
        place[torch.from_numpy(chosen)] = torch.arange(len(chosen))
        device = self.features[0].device if self.features else self.device
        found = torch.empty(len(chosen), *(sizes or {0}), device=device)
        start = 0
        for part in self.features:
            here = place[start : start + len(part)]
            start += len(part)
            wanted = (here >= 0).nonzero().flatten()
            if len(wanted):
                found[here[wanted].to(device)] = part[wanted.to(device)]
        return found

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather what every process holds; torchmetrics' own way needs lists of equal lengths."""
        group = process_group or self.process_group
        for name in ("features", "rows"):
            setattr(self, name, _gather(getattr(self, name), group))

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def keep_curve(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
            found = wrapped(*args, **kwargs)  # torchmetrics makes a scalar of a curve of one rank
            return {**found, "cmc": found["cmc"].reshape(-1)}

        return keep_curve


def _check_labels(name: str, value: Tensor, size: int) -> None:
    if value.shape != (size,) or value.is_floating_point():
        raise ValueError(
            f"{name} must be one integer for each of the {size} images, not {value.dtype} of "
            f"shape {tuple(value.shape)}"
        )


def _columns(parts: list[Tensor]) -> dict[str, Labels]:
    """Labels of all images by name."""
    tables = [part.cpu() for part in parts] or [torch.zeros(0, len(_COLUMNS), dtype=torch.int64)]
    table = torch.cat(tables).numpy()
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(_COLUMNS)}


def _given(masks: Labels) -> set[str]:
    """Which labels the updates had, all of them alike."""
    seen = np.unique(masks).tolist() or [0]
    for i, name in enumerate(_OPTIONAL):
        if len({bool(mask & 2**i) for mask in seen}) > 1:
            raise ValueError(f"some updates had {name}, and some had not")
    return {"ids", *(name for i, name in enumerate(_OPTIONAL) if seen[0] & 2**i)}


def _in_order(labels: dict[str, Labels], chosen: Labels, indexed: bool) -> Labels:
    """The chosen images by their index, each once."""
    if not indexed or not len(chosen):
        return chosen
    chosen = chosen[np.argsort(labels["index"][chosen], kind="stable")]
    repeated = 1 + np.flatnonzero(np.diff(labels["index"][chosen]) == 0)
    for name in ("ids", "cameras", "image_ids"):
        column = labels[name][chosen]
        odd = repeated[column[repeated] != column[repeated - 1]]
        if len(odd):
            raise ValueError(
                f"index {labels['index'][chosen[odd[0]]]} was given to images that differ in "
                f"{name}: it must be the image's place among all queries, or in the whole gallery"
            )
    return np.delete(chosen, repeated)


def _gather(own: list[Tensor], group: Any) -> list[Tensor]:
    """The rows of all processes, those of the first process first, one tensor for each.

    The list may be empty, or differ in length and in its tensors' lengths from process to process.
    """
    nccl = "nccl" in str(dist.get_backend(group))
    place = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
    own = [part for part in own if len(part)]
    home = own[0].device if own else place
    mine = torch.cat(own).to(place).contiguous() if own else torch.zeros(0, 0, device=place)
    shape = torch.tensor([*mine.shape, own[0].dtype == torch.int64 if own else 0], device=place)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size(group))]
    dist.all_gather(shapes, shape, group=group)
    found = []
    for rank, (length, width, whole) in enumerate(torch.stack(shapes).tolist()):
        if not length:
            continue
        buffer = mine
        if rank != dist.get_rank(group):
            dtype = torch.int64 if whole else torch.float32
            buffer = torch.empty(length, width, dtype=dtype, device=place)
        source = dist.get_global_rank(group, rank) if group is not None else rank
        dist.broadcast(buffer, src=source, group=group)
        found.append(buffer.to(home))
    return found


def mirrored_mean(embed: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Test-time augmentation: the mean of the features of images and of their mirror images.

    Args:
        embed: from images ``(B, C, H, W)`` to features ``(B, D)``.
        images: ``(B, C, H, W)``.

    Returns:
        Features ``(B, D)``.
    """
    return (embed(images) + embed(images.flip(-1))) / 2

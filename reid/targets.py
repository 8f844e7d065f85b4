"""Identities, cameras and queries of anybody's batch, and which images a loader repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler

from phasewise.data.batch import tensor_entry
from phasewise.errors import UserError
from reid.ranking import JUNK


def training_ids(batch: Mapping[str, Any], size: int, num_classes: int) -> Tensor:
    """``id`` int64 (B,) of a batch that trains.

    Args:
        batch: what the loader yielded.
        size: B.
        num_classes: ids are below it.

    Raises:
        UserError: see `_integers`; or one is out of range.
    """
    meaning = f"(B,), integers from 0 to {num_classes - 1} in training"
    ids = _integers(batch, "id", size, meaning)
    outside = ids[(ids < 0) | (ids >= num_classes)].tolist()
    if outside:
        raise UserError(f"batch['id'] holds {outside[0]}; wanted is {meaning}")
    return ids


def evaluation_targets(batch: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """``label`` and, where it is known, ``camera``, int64 (B,); ``is_query`` bool (B,).

    Args:
        batch: what the loader yielded.
        size: B.

    Raises:
        UserError: a key is missing or has another shape, type or range.
    """
    meaning = f"(B,), integers, {JUNK} = a gallery image that does not count"
    targets = {"label": _integers(batch, "id", size, meaning)}
    if "camera" in batch:
        meaning = "(B,), integers from 0; left out where cameras are not known"
        targets["camera"] = _integers(batch, "camera", size, meaning)
        if bool((targets["camera"] < 0).any()):
            lowest = int(targets["camera"].min())
            raise UserError(f"batch['camera'] holds {lowest}; wanted is {meaning}")
    meaning = "(B,), bool: queries, the others are the gallery"
    is_query = tensor_entry(batch, "is_query", (size,), meaning)
    if is_query.dtype != torch.bool:
        raise UserError(f"batch['is_query'] is of {is_query.dtype}; wanted is {meaning}")
    return {**targets, "is_query": is_query}


def _integers(batch: Mapping[str, Any], key: str, size: int, meaning: str) -> Tensor:
    """A tensor int64 (B,) of a user's batch.

    Raises:
        UserError: it is not there, or of another shape or type.
    """
    found = tensor_entry(batch, key, (size,), meaning)
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex():
        raise UserError(f"batch[{key!r}] is of {found.dtype}; wanted is {meaning}")
    return found.long()


def sampled_rows(loader: Any) -> list[int] | None:
    """The rows of its data set that a loader gives to this process, in order.

    Known of a `torch.utils.data.DistributedSampler` alone, as Lightning puts into loaders where
    there are several devices. It repeats rows, so that all processes get as many.

    Args:
        loader: a DataLoader, or anything else that yields batches.

    Returns:
        None where it is not known.
    """
    batches = getattr(loader, "batch_sampler", None)
    # A subclass may do anything, or draw anew whenever it is asked.
    if type(batches) is BatchSampler and type(batches.sampler) is DistributedSampler:
        return list(batches.sampler)
    return None

"""The ranked list of single queries, for pictures: what retrieval found first, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid.ranking import JUNK, Relevance


@dataclass(frozen=True)
class Ranked:
    """One query.

    Attributes:
        query: its row.
        average_precision: mean precision at each hit, over the whole gallery.
        rows: the first gallery rows of the list, nearest first, those that do not count left out.
        right: of each, whether it shows the query's identity.
    """

    query: int
    average_precision: float
    rows: list[int]
    right: list[bool]


def ranked_lists(
    features: Tensor,
    labels: Tensor,
    cameras: Tensor | None,
    is_query: Tensor,
    distance: str,
    length: int,
) -> list[Ranked]:
    """The ranked lists of all queries that have something to find, best average precision first.

    Args:
        features: (N, E).
        labels: identities (N,), -1 = junk.
        cameras: (N,), or None where they are not known.
        is_query: bool (N,).
        distance: ``cosine`` or ``euclidean``.
        length: most images of a list.
    """
    if distance == "cosine":
        features = torch.nn.functional.normalize(features, dim=1)
    queries, gallery = is_query.nonzero().flatten(), (~is_query).nonzero().flatten()
    gallery = gallery[labels[gallery] != JUNK]
    relevance = Relevance(
        labels[queries],
        labels[gallery],
        None if cameras is None else cameras[queries],
        None if cameras is None else cameras[gallery],
    )
    found = []
    for number, query in enumerate(queries.tolist()):
        positives, ignored = relevance.split(number)
        if not len(positives):
            continue
        distances = torch.cdist(features[query : query + 1], features[gallery])[0]
        order = np.argsort(distances.numpy(), kind="stable")
        order = order[~np.isin(order, ignored)]
        right = np.isin(order, positives)
        places = np.flatnonzero(right) + 1
        precision = float((np.arange(1, len(places) + 1) / places).mean())
        rows = gallery[torch.from_numpy(order[:length])].tolist()
        found.append(Ranked(query, precision, rows, right[:length].tolist()))
    return sorted(found, key=lambda one: (-one.average_precision, one.query))

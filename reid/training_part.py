"""The training images in which identities are looked for, to compare with validation."""

from __future__ import annotations

import torch
from torch import Tensor


def training_part(labels: Tensor, cameras: Tensor | None, identities: int) -> dict[str, Tensor]:
    """Whole identities, evenly spread, and their queries chosen as those of validation are.

    Each identity's first image, with cameras its first by each of them, is a query. The gallery
    holds the queries too where cameras are known, as in VeRi, else the others.

    Args:
        labels: identities (N,) of the training images.
        cameras: (N,), -1 where unknown; None: they do not count.
        identities: how many, >= 1; all if there are fewer. As many as validation has, for scores
            fall with the size of the gallery.

    Returns:
        ``row``, of the images: of the queries, then of the gallery; ``is_query``; ``index``, their
        places among them; each (n,).
    """
    there = labels.unique()
    chosen = torch.linspace(0, len(there) - 1, min(identities, len(there))).round().long()
    rows = torch.isin(labels, there[chosen]).nonzero().flatten()
    known = cameras is not None and bool((cameras[rows] >= 0).all())
    views = cameras[rows] if known and cameras is not None else torch.zeros_like(rows)
    keys = torch.stack([labels[rows], views], 1)
    _, group = keys.unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(rows)).scatter_reduce(
        0, group, torch.arange(len(rows)), "amin"
    )
    asked = first.sort().values
    others = torch.ones(len(rows), dtype=torch.bool)
    others[asked] = known
    answers = others.nonzero().flatten()
    return {
        "row": torch.cat([rows[asked], rows[answers]]),
        "is_query": torch.arange(len(asked) + len(answers)) < len(asked),
        "index": torch.cat([torch.arange(len(asked)), torch.arange(len(answers))]),
    }

"""Baselines of a record: those to beat, and those that nothing can beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

CEILING = "perfect_"
"""How the names begin of what is perfect at the size of the data, and no trivial predictor."""

BEFORE = "untrained"
"""The name of the network itself before training: pretrained, of ``init_from``, or as drawn."""

Scores = TypeVar("Scores")


def rivals(baselines: Mapping[str, Scores]) -> dict[str, Scores]:
    """The trivial predictors, which a network must beat to have learned anything.

    Args:
        baselines: metrics or anything else by the predictor's name.
    """
    return {name: it for name, it in baselines.items() if not name.startswith(CEILING)}


def trivial(baselines: Mapping[str, Scores]) -> dict[str, Scores]:
    """Of the `rivals`, those that are no network: a trained one is to be far better than these."""
    return {name: it for name, it in rivals(baselines).items() if name != BEFORE}

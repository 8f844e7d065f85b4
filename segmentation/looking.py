"""Looking at the masks of a set to know what their values mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from phasewise.errors import BadSample, Problem, UserError
from segmentation.meaning import Decision, Look, Meaning, decide, look
from segmentation.pairing import MASKS
from segmentation.samples import Sample, values_of

LOOKED_AT = 48
"""So many masks are decoded to know what their values mean; all, where these are unusual."""

Samples = dict[str, list[Sample]]


def understood(
    samples: Samples, kind: str, foreground: Any = None
) -> tuple[Samples, list[Problem]]:
    """The samples with what their masks' values mean, and what to tell of it.

    Args:
        samples: of each split.
        kind, foreground: see `segmentation.meaning.decide`.

    Raises:
        UserError: it cannot be known.
    """
    several = {sample.mask: sample for part in samples.values() for sample in part}
    looks, others = _first(list(several.values()))
    decision = _decided(looks, others, kind, foreground)
    if decision.meaning.kind != "instances" or len(looks) < LOOKED_AT:
        looks = [*looks, *others.done]
    remarks = _remarks(looks, decision)
    found = {
        split: [replace(sample, meaning=decision.meaning) for sample in part]
        for split, part in samples.items()
    }
    return found, remarks


class _Others:
    """The masks that were not looked at, until they are."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.done: list[Look] = []

    def looked(self) -> list[Look]:
        """At each of them."""
        if not self.done and self._samples:
            with ThreadPoolExecutor() as pool:
                self.done = _kept(pool.map(_look, self._samples))
        return self.done


def _first(samples: Sequence[Sample]) -> tuple[list[Look], _Others]:
    """Of `LOOKED_AT` from the whole set; of more, until one is not empty."""
    step = max(1, len(samples) // LOOKED_AT)
    order = [*samples[::step], *(it for i, it in enumerate(samples) if i % step)]
    looks: list[Look] = []
    for number, sample in enumerate(order):
        if len(looks) >= LOOKED_AT and any(one.counts for one in looks):
            return looks, _Others(order[number:])
        looks += _kept([_look(sample)])
    return looks, _Others([])


def _kept(looks: Iterable[Look | None]) -> list[Look]:
    return [one for one in looks if one is not None]


def _look(sample: Sample) -> Look | None:
    try:
        return look(values_of(sample, lambda path: path.name))
    except BadSample:
        return None  # loading will tell


def _decided(looks: list[Look], others: _Others, kind: str, foreground: Any) -> Decision:
    """From the first ones where they are as usual, else from all."""
    try:
        found = decide(looks, kind, foreground)
        if not found.reason or found.meaning.kind == "instances":
            return found
    except UserError:
        pass
    return decide([*looks, *others.looked()], kind, foreground)


def _remarks(looks: Sequence[Look], decision: Decision) -> list[Problem]:
    """What they have in common."""
    filled = any(_foreground(one, decision.meaning) for one in looks)
    grounded = any(_has_ground(one, decision.meaning) for one in looks)
    remarks = []
    if looks and not filled:
        remarks.append(Problem(MASKS, f"all {len(looks)} are empty: no pixel is foreground"))
    elif looks and not grounded:
        reason = f"{len(looks)} were looked at, and no pixel of them is 0 = ground"
        remarks.append(Problem(MASKS, reason))
    if decision.reason:
        remarks.append(Problem(MASKS, decision.reason))
    return remarks


def _foreground(one: Look, meaning: Meaning) -> list[int]:
    """The values that are."""
    if meaning.kind == "values":
        return [value for value, count in _all(one).items() if count and value in meaning.values]
    if meaning.kind == "threshold":
        return [value for value in one.counts if value >= meaning.cut]
    return [value for value in one.counts if meaning.kind != "void" or value == 1]


def _has_ground(one: Look, meaning: Meaning) -> bool:
    void = {255} if meaning.kind == "void" else set()
    present = {value for value, count in _all(one).items() if count}
    return bool(present - void - set(_foreground(one, meaning)))


def _all(one: Look) -> dict[int, int]:
    return {0: one.ground, **one.counts}

"""Classes of mask values that no file names: taken in the order of their names, if boxes agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phasewise.data.images import VOID, read_mask
from phasewise.data.voc_labels import LABELS
from phasewise.data.voc_xml import VocObject
from phasewise.errors import BadSample, Problem, UserError

LOOKED_AT = 64
"""At most so many masks with boxes, spread over the set, are compared."""

MARGIN = 0.3
"""Boxes contradict if by so much more of a value's pixels lie in those of another class."""

SHOWN = 5


class Seen(NamedTuple):
    """A mask and the boxes of its image."""

    path: Path
    name: str
    objects: Sequence[VocObject]


def guessed(root: Path, folder: str, seen: Sequence[Seen], names: Sequence[str]) -> Problem:
    """What is said of a guess; it stands where boxes do not contradict it.

    Args:
        root: ``data.root``.
        folder: of the masks, as messages call it.
        seen: masks that hold class indices, with boxes.
        names: by class index, as guessed.

    Raises:
        UserError: the pixels of a value lie in the boxes of another class.
    """
    inside = _share_inside(seen, names)
    best = inside.argmax(1)
    for value in range(1, len(names)):
        right, mine = inside[value, best[value]], inside[value, value]
        if right > 0.5 and right - mine > MARGIN:
            raise UserError(
                f"data.root={root}: no {LABELS} says which mask value is which class, and boxes "
                f"contradict the order of the names: {100 * right:.0f} % of the pixels of {value} "
                f"in {folder} lie in boxes of {names[best[value]]}, {100 * mine:.0f} % in those of "
                f"{names[value]}.\n{_advice(names, best.tolist(), inside.max(1).tolist())}"
            )
    order = ", ".join(f"{index} = {name}" for index, name in enumerate(names[1 : SHOWN + 1], 1))
    more = ", ..." if len(names) > SHOWN + 1 else ""
    reason = f"missing: mask values are taken as the classes found, in order ({order}{more})"
    return Problem(LABELS, reason)


def _advice(names: Sequence[str], best: list[int], shares: list[float]) -> str:
    whole = f"{LABELS} names the classes of the values, one a line, background first"
    order = best[1:]
    if len(set(order)) < len(order) or min(shares[1:]) < 0.5:
        return whole
    found = ", ".join([names[0], *(names[index] for index in order)])
    return f"{whole}; the boxes say: {found}"


def _share_inside(seen: Sequence[Seen], names: Sequence[str]) -> np.ndarray:
    """(classes, classes): which share of a value's pixels lies in the boxes of each class."""
    count = len(names)
    inside, total = np.zeros((count, count)), np.zeros(count)
    for it in seen[:: max(1, len(seen) // LOOKED_AT)][:LOOKED_AT]:
        try:
            mask = read_mask(it.path, it.name)
        except BadSample:
            continue  # told when it is decoded
        for name in {thing.class_name for thing in it.objects}:
            boxed = np.zeros(mask.shape, bool)
            for thing in it.objects:
                if thing.class_name == name:
                    x1, y1, x2, y2 = (round(edge) for edge in thing.box)
                    boxed[y1:y2, x1:x2] = True
            pixels = np.bincount(mask[boxed], minlength=VOID + 1)[:count]
            inside[: len(pixels), names.index(name)] += pixels
        total += np.bincount(mask.ravel(), minlength=VOID + 1)[:count]
    return inside / np.maximum(total, 1)[:, None]

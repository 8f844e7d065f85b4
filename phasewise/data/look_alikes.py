"""Images of one split that look like those of another: what is measured on them is too good."""

from __future__ import annotations

from functools import lru_cache

from phasewise.data.groups import KEY, NEAR
from phasewise.data.listed import Splits
from phasewise.data.near import near_across, thumbnails_of
from phasewise.errors import Problem

MOST = {"train": 8192, "val": 4096, "test": 4096}
"""So many images of a split are compared, spread over it: of 10,000 images all, in some five
seconds of a processor, and of more in at most twenty."""

REMEMBERED = 16
"""So many data sets are compared once per process, whatever trials a study makes of them."""


class _Images:
    """The images of all splits, alike if they are the same."""

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        filled = [(split, store) for split, store in splits.stores.items() if len(store)]
        self.steps = {split: -(-len(store) // MOST[split]) for split, store in filled}
        shapes = [(split, tuple(store["image"].shape)) for split, store in filled]
        self.key = (*shapes, *(splits.listed[split].hash for split, _ in filled))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Images) and other.key == self.key


def look_alikes(splits: Splits) -> list[Problem]:
    """A note where splits share near-duplicates, see `phasewise.data.near`.

    Args:
        splits: decoded.
    """
    return list(_compared(_Images(splits)))


@lru_cache(maxsize=REMEMBERED)
def _compared(images: _Images) -> tuple[Problem, ...]:
    splits, steps = images.splits, images.steps
    thumbnails = {
        split: thumbnails_of(splits.stores[split]["image"][::step]) for split, step in steps.items()
    }
    images.splits = Splits([])  # only the key is kept
    found = []
    for (first, second), pairs in near_across(thumbnails).items():
        names = [
            (splits.names[first][i * steps[first]], splits.names[second][j * steps[second]])
            for i, j in pairs
        ]
        different = [pair for pair in names if pair[0] != pair[1]]  # the others are told as such
        if different:
            one, other = different[0]
            count = f"{len(different)} of {len(thumbnails[second])} images of {second}"
            found.append(f"{count} look like one of {first} ({other} like {one})")
    if not found:
        return ()
    reason = (
        f"{', '.join(found)}: figures on copies are too good. Where names decide the split, "
        f"{KEY}={NEAR} keeps them together"
    )
    return (Problem("splits", reason),)

"""Images with one box each: what readers find, and how they check it.

Boxes are x1, y1, x2, y2 in pixels of the upright image with continuous edges: 0, 0, width, height
is the whole image.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phasewise.data.splits import SPLITS, inside, resolve_splits, split_rule
from phasewise.data.voc_xml import BACKGROUND
from phasewise.errors import BadSample, Problem

OBJECT = "object"
"""The class of boxes without one."""

TOLERANCE = 1.0
"""A box up to this many pixels outside its image is clipped: programs round differently."""

EVERYTHING = "all"
"""The list of images that belong to no split yet."""

Box = tuple[float, ...]
Found = tuple[str, Box]
"""The class and the box of one object."""


@dataclass(frozen=True)
class Sample:
    """One image and its box.

    Attributes:
        name: of the image; VOC and pets: without folder and extension, else relative to the root.
        image: the file.
        box: x1, y1, x2, y2 in pixels of the upright image, inside it.
        size: width and height of the upright image in pixels.
        class_name: of what is in the box.
    """

    name: str
    image: Path
    box: Box
    size: tuple[int, int]
    class_name: str


@dataclass(frozen=True)
class Listing:
    """What a reader found.

    Attributes:
        samples: the usable ones of each of train, val and test.
        class_names: ``background``, then the classes.
        problems: samples left out, and why.
        warnings: what is odd but used.
        rule: how they came into their splits, in words.
    """

    samples: dict[str, list[Sample]]
    class_names: list[str]
    problems: list[Problem]
    warnings: list[Problem]
    rule: str = ""


@dataclass
class Collector:
    """The usable samples by name, and what was found wrong, so far."""

    root: Path
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    rule: str = ""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Whatever is wrong inside with a sample becomes a problem."""
        try:
            yield
        except BadSample as bad:
            self.problems.append(bad.problem)

    def name(self, path: Path) -> str:
        """How messages call a file."""
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )

    def find(self, relative: str, folders: Iterable[str] = (".",)) -> Path:
        """The file of that name in the first of the folders, all below the root, that has it.

        Raises:
            BadSample: it leads out of the root, or there is none.
        """
        folders = list(folders)
        inside(self.root, relative)
        for folder in folders:
            for form in ("NFC", "NFD"):  # macOS stores umlauts as two characters
                path = self.root / folder / unicodedata.normalize(form, relative)
                if path.is_file():
                    return path
        where = ", ".join("data.root" if folder == "." else folder for folder in folders)
        raise BadSample(relative, f"no such file in {where}")

    def add(
        self,
        name: str,
        image: Path,
        size: tuple[int, int],
        objects: Sequence[Found],
        pick: str = "only",
    ) -> None:
        """Enter a sample with its ``only`` or its ``largest`` object.

        Raises:
            BadSample: no object; or several and ``pick=only``.
        """
        if not objects:
            raise BadSample(self.name(image), "no object")
        if len(objects) > 1 and pick == "only":
            reason = f"{len(objects)} objects; data.object=largest takes the largest"
            raise BadSample(self.name(image), reason)
        class_name, box = max(objects, key=lambda found: _area(found[1]))
        if class_name == BACKGROUND:
            raise BadSample(self.name(image), f"{BACKGROUND} cannot be the class of an object")
        self.samples[name] = Sample(name, image, box, size, class_name)

    def split(self, lists: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
        """Names by split, from lists called as in `phasewise.data.splits` or in `EVERYTHING`."""
        listed = {key: names for key, names in lists.items() if key != EVERYTHING}
        splits, overlaps = resolve_splits(listed, lists.get(EVERYTHING, ()), seed)
        self.warnings += overlaps
        self.rule = split_rule(sorted(listed), seed)
        return splits

    def listing(
        self, splits: Mapping[str, Sequence[str]], class_names: Sequence[str] | None = None
    ) -> Listing:
        """The result; by default the classes are those that occur, sorted."""
        samples = {
            split: [self.samples[name] for name in splits[split] if name in self.samples]
            for split in SPLITS
        }
        found = sorted({sample.class_name for sample in self.samples.values()})
        names = list(class_names or (BACKGROUND, *found))
        problems = list(dict.fromkeys(self.problems))
        return Listing(samples, names, problems, self.warnings, self.rule)


def number(value: Any, key: str, name: str) -> float:
    """A finite number.

    Raises:
        BadSample: ``value`` of ``key`` in ``name`` is none.
    """
    if value is None or value == "":
        raise BadSample(name, f"no {key}")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadSample(name, f"{key}={str(value)[:40]!r} is not a number") from None
    if not math.isfinite(found):
        raise BadSample(name, f"{key} is not finite")
    return found


def sound(edges: Sequence[float], size: tuple[int, int], name: str) -> Box:
    """A box, clipped to the image of ``size`` (width, height).

    Raises:
        BadSample: it is empty, or outside by more than `TOLERANCE`.
    """
    for axis, side in enumerate("xy"):
        low, high, end = edges[axis], edges[axis + 2], size[axis]
        if high <= low:
            raise BadSample(name, f"{side}max={high:g} <= {side}min={low:g}")
        beyond = low < -TOLERANCE or high > end + TOLERANCE
        if beyond or min(high, end) <= max(low, 0):
            raise BadSample(name, f"{side} {low:g}..{high:g} lies outside the image 0..{end}")
    x1, y1, x2, y2 = edges
    return (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1])))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

"""Images with one box each: what readers find, and how they check it.

Boxes are x1, y1, x2, y2 in pixels of the upright image with continuous edges: 0, 0, width, height
is the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phasewise.data.annotated import EVERYTHING, OBJECT, SHOWN, Finder, number, sound
from phasewise.data.frame import Box
from phasewise.data.groups import AUTO, find_groups
from phasewise.data.held_out import AS_LISTED, HeldOut
from phasewise.data.splits import SPLITS
from phasewise.data.voc_xml import BACKGROUND
from phasewise.errors import BadSample, Problem

__all__ = [
    "EVERYTHING",
    "OBJECT",
    "Box",
    "Collector",
    "Found",
    "Listing",
    "Sample",
    "number",
    "sound",
]

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
class Collector(Finder):
    """The usable samples by name, and what was found wrong, so far.

    Attributes:
        empty: images without an object.
        several: images with more than one, of which the largest was taken.
    """

    samples: dict[str, Sample] = field(default_factory=dict)
    rule: str = ""
    empty: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        image: Path,
        size: tuple[int, int],
        objects: Sequence[Found],
        pick: str = "only",
    ) -> None:
        """Enter a sample with its ``only`` or its ``largest`` object; one without is counted.

        Raises:
            BadSample: several objects and ``pick=only``.
        """
        if not objects:
            self.empty.append(self.name(image))
            return
        if len(objects) > 1 and pick == "only":
            reason = f"{len(objects)} objects; data.object=largest takes the largest"
            raise BadSample(self.name(image), reason)
        class_name, box = max(objects, key=lambda found: _area(found[1]))
        if class_name == BACKGROUND:
            raise BadSample(self.name(image), f"{BACKGROUND} cannot be the class of an object")
        if len(objects) > 1:
            self.several.append(self.name(image))
        self.samples[name] = Sample(name, image, box, size, class_name)

    def split(
        self,
        lists: Mapping[str, Sequence[str]],
        seed: int,
        group_by: str = AUTO,
        columns: Mapping[str, Mapping[str, str]] | None = None,
        held_out: HeldOut = AS_LISTED,
    ) -> dict[str, list[str]]:
        """Names by split, from lists called as in `phasewise.data.splits` or in `EVERYTHING`.

        Args:
            lists: names by list.
            seed: of the split by hashed name.
            group_by, columns: see `phasewise.data.groups.find_groups`.
            held_out: what validates.

        Raises:
            UserError: see there.
        """
        names = [name for names in lists.values() for name in names]
        groups = find_groups(group_by, names, images=self._image, columns=columns)
        listed = {key: names for key, names in lists.items() if key != EVERYTHING}
        classes = {name: sample.class_name for name, sample in self.samples.items()}
        everything = lists.get(EVERYTHING, ())
        splits, notes = held_out.resolve(listed, everything, seed, groups, classes)
        self.warnings += notes
        self.rule = held_out.rule(sorted(listed), seed)
        return splits

    def _image(self, name: str) -> Path | None:
        return self.samples[name].image if name in self.samples else None

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
        if self.empty and not (samples["train"] and samples["val"]):
            # nothing can be trained, and that may be why
            self.problems += [Problem(name, "no object") for name in self.empty]
        self._note(self.empty, "no object: not used")
        self._note(self.several, "several objects: the largest is taken")
        problems = list(dict.fromkeys(self.problems))
        return Listing(samples, names, problems, self.warnings, self.rule)

    def _note(self, names: Sequence[str], what: str) -> None:
        if names:
            total = len(self.samples) + len(self.empty)
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            key = "data.object" if names is self.several else "images"
            self.warnings.append(Problem(key, f"{len(names)} of {total} have {what} ({shown})"))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

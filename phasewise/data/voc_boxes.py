"""What the boxes of a set in PASCAL VOC layout mean: decided once for all its annotations.

VOC counts pixels from 1; CVAT, Roboflow and many scripts count from 0. Boxes are pixels of the
image, or of the one that the size tag speaks of: before it was resized, or before an EXIF tag has
turned it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from phasewise.data.frame import Frame
from phasewise.data.listing import by
from phasewise.data.voc_xml import (
    TOLERANCE,
    VOC_COUNTING,
    Counting,
    VocObject,
    WrittenAnnotation,
    objects_of,
)
from phasewise.errors import BadSample, Problem, UserError

COORDINATES = ("auto", "one_based", "zero_based")
"""What ``data.coordinates`` may be."""

SIZE_TAGS = ("auto", "ignore")
"""What ``data.size_tag`` may be."""

FROM_ZERO = Counting(0, 0)
"""The first pixel is 0, and a box ends where its last pixel ends."""

FROM_ZERO_INCLUSIVE = Counting(0, 1)
"""The first pixel is 0, and a box ends with its last pixel."""

SOME = 0.05
"""The least share of fractions among numbers that are written with a decimal point."""

ROUNDED = 0.5
"""Whole numbers that differ by more than this are different pixels."""

Numbers = npt.NDArray[np.float64]
Size = tuple[int, int]


class Annotated(NamedTuple):
    """An annotation and its image.

    Attributes:
        written: what the XML file holds.
        size: width and height of the upright image in pixels.
        orientation: EXIF's, 1 to 8.
    """

    written: WrittenAnnotation
    size: Size
    orientation: int


@dataclass
class BoxReading:
    """How the boxes of a set are read.

    Attributes:
        counting: what their numbers mean.
        frames: by the name of an annotation, where boxes are not for the upright image.
        refused: annotations whose boxes cannot be placed, and why.
        notes: what was decided, and how many it concerns.
    """

    counting: Counting = VOC_COUNTING
    frames: dict[str, Frame] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def objects(
        self, annotated: Annotated, class_names: Sequence[str] | None
    ) -> tuple[VocObject, ...]:
        """The objects of an annotation, in pixels of the upright image.

        Raises:
            BadSample: see `phasewise.data.voc_xml.objects_of`; or they are for another image.
        """
        name = annotated.written.name
        if name in self.refused:
            raise BadSample(name, self.refused[name])
        frame = self.frames.get(name)
        objects = objects_of(
            annotated.written,
            size=annotated.size if frame is None else frame.stated,
            class_names=class_names,
            counting=self.counting,
        )
        if frame is None:
            return objects
        return tuple(VocObject(it.class_name, frame.box(it.box), it.difficult) for it in objects)

    def problems(self, folder: str) -> list[Problem]:
        """The notes, for a record."""
        return [Problem(f"{folder}/*.xml", note) for note in self.notes]


def decide_boxes(
    found: Sequence[Annotated], coordinates: str = "auto", size_tag: str = "auto"
) -> BoxReading:
    """How to read the boxes of a set.

    Args:
        found: all its annotations.
        coordinates: one of `COORDINATES`.
        size_tag: one of `SIZE_TAGS`; under ``ignore`` all boxes are for the upright image.

    Raises:
        UserError: another value; or boxes are fractions.
    """
    for key, value, allowed in (
        ("coordinates", coordinates, COORDINATES),
        ("size_tag", size_tag, SIZE_TAGS),
    ):
        if value not in allowed:
            raise UserError(f"data.{key}={value!r} is none of {', '.join(allowed)}")
    reading = BoxReading()
    if size_tag == "auto":
        _decide_frames(found, reading)
    _decide_counting(found, reading, coordinates)
    return reading


# --- From which number pixels are counted ---------------------------------------------------------


def _decide_counting(found: Sequence[Annotated], reading: BoxReading, coordinates: str) -> None:
    """Zeros, which VOC does not have, or fractions tell a tool that counts from 0.

    A few zeros among boxes that begin at 1 are slips. VOC 2012 has some fractions among whole
    numbers, and whole numbers that went through a table are written ``12.0``: only a tool whose
    numbers mostly have a decimal point, some of them not zero behind it, thinks of edges.
    """
    if coordinates == "one_based":
        return
    edges, sizes, decimals = [], [], 0
    for it in found:
        if it.written.objects:
            frame = reading.frames.get(it.written.name)
            size = it.size if frame is None else frame.stated
            mine = [each.edges for each in it.written.objects if each.edges is not None]
            edges += mine
            sizes += [size] * len(mine)
            decimals += sum(each.decimals for each in it.written.objects)
    if not edges:
        return
    numbers, ends = np.array(edges, float), np.array(sizes, float)
    if numbers.max() <= 1 and (numbers % 1 != 0).any():
        what = "no number of a bndbox is above 1: fractions"
        raise UserError(f"{found[0].written.name} and the others: {what}; VOC's are in pixels")
    first, last = numbers[:, :2], numbers[:, 2:]
    zeros = int(((first > -TOLERANCE - ROUNDED) & (first < ROUNDED)).sum())
    ones = int(((first >= ROUNDED) & (first < 1 + ROUNDED)).sum())
    fractions = float((numbers % 1 != 0).mean())
    continuous = fractions >= SOME and decimals > numbers.size / 2
    if coordinates == "auto" and not continuous and zeros <= ones:
        return
    at_last_pixel = int((np.abs(last - (ends - 1)) < ROUNDED).sum())
    inclusive = fractions == 0 and at_last_pixel > 0 and not (last > ends - ROUNDED).any()
    reading.counting = FROM_ZERO_INCLUSIVE if inclusive else FROM_ZERO
    if coordinates == "auto":
        if continuous:
            why = f"{100 * fractions:.0f} % of the numbers are fractions"
        else:
            why = f"{zeros} edges are at 0, {ones} at 1"
        what = "with the last pixel in it" if inclusive else "up to where a box ends"
        reading.notes.append(
            f"boxes count pixels from 0 ({why}), {what}; data.coordinates=one_based says otherwise"
        )


# --- Which image they are written for -------------------------------------------------------------


@dataclass
class _Kinds:
    """Annotations whose boxes may not be for the upright image, by what tells it."""

    stored: list[Annotated] = field(default_factory=list)
    upright: int = 0
    undecided: list[Annotated] = field(default_factory=list)
    resized: list[Annotated] = field(default_factory=list)
    swapped: list[Annotated] = field(default_factory=list)
    unreadable: list[Annotated] = field(default_factory=list)
    other: list[Annotated] = field(default_factory=list)


def _decide_frames(found: Sequence[Annotated], reading: BoxReading) -> None:
    kinds = _Kinds()
    for it in found:
        if it.orientation != 1 or it.written.declared_size not in (None, it.size):
            _sort_in(it, kinds)
    _turn(kinds, reading)
    _scale(kinds, reading)
    as_they_are = []
    for it in kinds.other:
        if _only_fits(it, it.size, it.written.declared_size):
            as_they_are.append(it)
        elif it.written.objects:
            reading.refused[it.written.name] = (
                f"{_tag(it)}: boxes for an image of another shape; data.size_tag=ignore takes them "
                "for this one"
            )
    _note(reading, kinds.swapped, "width and height swapped; the boxes fit, and are used")
    _note(reading, as_they_are, "another size, beyond which boxes lie; they are used as they are")
    _note(reading, kinds.unreadable, "no size; the boxes are used as they are")


def _sort_in(it: Annotated, kinds: _Kinds) -> None:
    declared, size = it.written.declared_size, it.size
    if declared is not None and min(declared) < 1:
        kinds.unreadable.append(it)
        declared = None
    if it.orientation != 1:
        kind = _turned_kind(it, declared)
        if kind == "stored":
            kinds.stored.append(it)
            return
        kinds.upright += kind == "upright"
        if kind == "undecided" and it.written.objects:
            kinds.undecided.append(it)
    if declared is None or declared == size:
        return
    if declared == size[::-1] and _fits(it, size):
        kinds.swapped.append(it)
    elif _same_shape(declared, size):
        kinds.resized.append(it)
    else:
        kinds.other.append(it)


def _turned_kind(it: Annotated, declared: Size | None) -> str:
    """Whether boxes are for an image as stored, or as EXIF turns it; undecided by what does not
    swap width and height."""
    stored, size = _stored_size(it), it.size
    if stored == size:
        return "undecided"
    if declared is None:
        return "stored" if _only_fits(it, stored, size) else "undecided"
    like_stored = _same_shape(declared, stored) and not _same_shape(declared, size)
    return "stored" if declared == stored or like_stored else "upright"


def _turn(kinds: _Kinds, reading: BoxReading) -> None:
    """Boxes in the orientation that images are stored in, as LabelImg wrote them before 2020."""
    stored = list(kinds.stored)
    if kinds.stored and not kinds.upright:
        stored += kinds.undecided
    elif kinds.undecided:
        reading.notes.append(
            f"{len(kinds.undecided)} images are turned by EXIF, and no size tag tells whether "
            f"boxes are ({kinds.undecided[0].written.name}, ...): they are taken as for the "
            "upright image"
        )
    for it in stored:
        declared = it.written.declared_size
        size = declared if declared and min(declared) > 0 else _stored_size(it)
        reading.frames[it.written.name] = Frame(size, it.size, it.orientation)
    if stored:
        reading.notes.append(
            f"boxes of {len(stored)} images are for the image as stored, which EXIF turns (size "
            f"tags tell it): they are turned with it; data.size_tag=ignore says otherwise"
        )


def _scale(kinds: _Kinds, reading: BoxReading) -> None:
    """Boxes for the image in another size; or the tags are wrong, if boxes show that."""
    resized = kinds.resized
    for_image = [it for it in resized if _only_fits(it, it.size, it.written.declared_size)]
    for_tag = [it for it in resized if _only_fits(it, it.written.declared_size, it.size)]
    if for_image and not for_tag:
        _note(reading, resized, "another size, beyond which boxes lie; they are used as they are")
        return
    for it in resized:
        assert it.written.declared_size is not None
        reading.frames.setdefault(it.written.name, Frame(it.written.declared_size, it.size))
    what = "another size of the same shape: boxes are scaled to the image"
    _note(reading, resized, f"{what}; data.size_tag=ignore says otherwise")


def _note(reading: BoxReading, found: Sequence[Annotated], what: str) -> None:
    if found:
        name = found[0].written.name.rpartition("/")[2]
        files = "file's" if len(found) == 1 else "files'"
        text = f"{len(found)} {files} size tags tell {what} ({name}: {_tag(found[0])})"
        reading.notes.append(text)


def _tag(it: Annotated) -> str:
    declared = it.written.declared_size
    assert declared is not None
    return f"its size tag says {by(declared)}, the image is {by(it.size)}"


def _stored_size(it: Annotated) -> Size:
    return it.size[::-1] if it.orientation >= 5 else it.size


def _same_shape(one: Size, other: Size) -> bool:
    """Whether an image of one size may have been resized to the other, with rounded sides."""
    (small, large) = sorted((one, other))
    width, height = small
    return (
        abs(large[1] * width / large[0] - height) <= 1
        or abs(large[0] * height / large[1] - width) <= 1
    )


def _fits(it: Annotated, size: Size) -> bool:
    """Whether all boxes lie inside an image of that size, up to a pixel."""
    return all(
        edges is None or (edges[2] <= size[0] + TOLERANCE and edges[3] <= size[1] + TOLERANCE)
        for edges in (each.edges for each in it.written.objects)
    )


def _only_fits(it: Annotated, size: Size | None, other: Size | None) -> bool:
    """Whether boxes lie inside an image of the one size and not of the other."""
    return size is not None and other is not None and _fits(it, size) and not _fits(it, other)

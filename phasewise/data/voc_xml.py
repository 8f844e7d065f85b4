"""Reader of one PASCAL VOC annotation (XML): what is written in it, and the boxes that it means."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from phasewise.errors import BadSample

BACKGROUND = "background"
"""The class of index 0, which no object has."""

TOLERANCE = 1.0
"""Boxes up to this many pixels outside the image are clipped: programs round differently."""

REASONS_SHOWN = 5
"""How many reasons about one annotation are spelled out before the rest is counted."""

EDGES = ("xmin", "ymin", "xmax", "ymax")

NONE: Sequence[str] = ()
"""No reason to refuse."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VocObject:
    """One object: its class and ``x1, y1, x2, y2`` in pixels, continuous edges, 0-based."""

    class_name: str
    box: Box
    difficult: bool


class Written(NamedTuple):
    """One object as it is written.

    Attributes:
        class_name: without space around it.
        edges: xmin, ymin, xmax, ymax; None where one of them is no number.
        difficult: whether it counts in no score.
        reasons: why edges are None.
        decimals: how many of the edges are written with a decimal point.
    """

    class_name: str
    edges: Box | None
    difficult: bool
    reasons: Sequence[str]
    decimals: int = 0


class WrittenAnnotation(NamedTuple):
    """One XML file as it is written.

    Attributes:
        name: how messages call it.
        objects: those in it.
        declared_size: the size tag's (width, height), 0 where unreadable; None without one.
    """

    name: str
    objects: list[Written]
    declared_size: tuple[int, int] | None


class Counting(NamedTuple):
    """What the numbers of a box mean: added to them, they are continuous edges counted from 0.

    Attributes:
        first: added to xmin and ymin.
        last: added to xmax and ymax.
    """

    first: int
    last: int


VOC_COUNTING = Counting(-1, 0)
"""As published: the first pixel is 1, and a box ends with its last pixel."""


@dataclass(frozen=True)
class Annotation:
    """One XML file. ``declared_size`` is the size tag's (width, height), 0 where unreadable."""

    objects: tuple[VocObject, ...]
    declared_size: tuple[int, int] | None


def parse_annotation(
    path: Path,
    name: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> Annotation:
    """Read a VOC annotation as published: box edges become ``xmin - 1, ymin - 1, xmax, ymax``.

    The boxes of an object's ``<part>``s are not read.

    Args:
        path: the XML file.
        name: how messages call it; the path if not given.
        size: (width, height) of the image, inside which boxes must lie.
        class_names: the known classes; any are allowed if not given.

    Raises:
        BadSample: not XML, a DTD, not an annotation; or everything that is wrong with its
            objects, as one reason.
    """
    written = read_annotation(path, name)
    objects = objects_of(written, size=size, class_names=class_names)
    return Annotation(objects, written.declared_size)


def read_annotation(path: Path, name: str | None = None) -> WrittenAnnotation:
    """What an XML file holds; what is wrong with its objects is told by `objects_of`.

    Raises:
        BadSample: not XML, a DTD, not an annotation.
    """
    name = name or str(path)
    root = _xml_root(path, name)
    objects = []
    for element in root.findall("object"):
        edges, reasons, decimals = _read_edges(element.find("bndbox"))
        difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
        class_name = (element.findtext("name") or "").strip()
        objects.append(Written(class_name, edges, difficult, reasons, decimals))
    return WrittenAnnotation(name, objects, _declared_size(root.find("size")))


def objects_of(
    written: WrittenAnnotation,
    *,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    counting: Counting = VOC_COUNTING,
) -> tuple[VocObject, ...]:
    """The objects of an annotation, with continuous edges.

    Args:
        written: what the file holds.
        size: (width, height) that the boxes are written for, inside which they must lie.
        class_names: the known classes; any are allowed if not given.
        counting: what their numbers mean.

    Raises:
        BadSample: everything that is wrong with them, as one reason.
    """
    objects, reasons = [], []
    for number, it in enumerate(written.objects, 1):
        wrong = [*_class_reasons(it.class_name, class_names), *it.reasons]
        if it.edges is not None:
            box, outside = _place(it.edges, counting, size)
            wrong += outside
            objects.append(VocObject(it.class_name, box, it.difficult))
        if wrong:
            reasons += [f"object {number} ({_short(it.class_name)}): {reason}" for reason in wrong]
    if reasons:
        more = len(reasons) - REASONS_SHOWN
        shown = reasons[:REASONS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise BadSample(written.name, "; ".join(shown))
    return tuple(objects)


def _xml_root(path: Path, name: str) -> Element:
    try:
        root = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise BadSample(name, "has a DTD or entities, which are refused") from None
    except OSError as error:
        raise BadSample(name, f"cannot be read: {error.strerror}") from None
    except (ParseError, ValueError, LookupError) as error:  # the last two: a wrong encoding
        raise BadSample(name, f"not XML: {error}") from None
    if root.tag != "annotation":
        raise BadSample(name, f"not a VOC annotation: its root is <{_short(root.tag)[1:-1]}>")
    return root


def _read_edges(element: Element | None) -> tuple[Box | None, Sequence[str], int]:
    """The numbers of a box, or None and the reasons; and how many have a decimal point."""
    if element is None:
        return None, ["no bndbox"], 0
    edges, reasons, decimals = [], [], 0
    for tag in EDGES:
        text = element.findtext(tag)
        try:
            edges.append(float(text or ""))
            decimals += "." in (text or "")
            if not math.isfinite(edges[-1]):
                reasons.append(f"{tag} is not finite")
        except ValueError:
            reasons.append(f"no {tag}" if not text else f"{tag}={_short(text)} is not a number")
    if reasons:
        return None, reasons, 0
    return (edges[0], edges[1], edges[2], edges[3]), NONE, decimals


def _place(
    edges: Box, counting: Counting, size: tuple[int, int] | None
) -> tuple[Box, Sequence[str]]:
    """The box with continuous edges, clipped to an image of ``size``, and what is wrong with it."""
    x1, y1, x2, y2 = edges
    first, last = counting
    x1, y1, x2, y2 = x1 + first, y1 + first, x2 + last, y2 + last
    if size is not None and 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]:
        return (x1, y1, x2, y2), NONE
    placed, reasons = list(edges), []
    for axis, side in enumerate("xy"):
        low, high = edges[axis] + first, edges[axis + 2] + last
        if edges[axis + 2] < edges[axis]:
            reasons.append(f"{side}max={edges[axis + 2]:g} < {side}min={edges[axis]:g}")
            continue
        if high <= low:  # one pixel, of a tool for which boxes end where their last pixel ends
            high = low + 1
        if size is not None:
            end = size[axis]
            if low < -TOLERANCE or high > end + TOLERANCE or low >= end or high <= 0:
                bounds = f"{-first}..{end - last}"
                numbers = f"{edges[axis]:g}..{edges[axis + 2]:g}"
                reasons.append(f"{side} {numbers} lies outside the image {bounds}")
            low, high = max(low, 0.0), min(high, float(end))
        placed[axis], placed[axis + 2] = low, high
    return (placed[0], placed[1], placed[2], placed[3]), reasons


def _class_reasons(class_name: str, class_names: Sequence[str] | None) -> list[str]:
    if not class_name:
        return ["no class name"]
    if class_name == BACKGROUND:
        return [f"{BACKGROUND} cannot be the class of an object"]
    if class_names is None or class_name in class_names:
        return []
    near = difflib.get_close_matches(class_name[:100], class_names[1:], n=1, cutoff=0.0)
    return [f"unknown class; the nearest known is {near[0]!r}" if near else "unknown class"]


def _declared_size(element: Element | None) -> tuple[int, int] | None:
    if element is None:
        return None

    def pixels(tag: str) -> int:
        try:
            return int(float(element.findtext(tag) or ""))
        except (ValueError, OverflowError):
            return 0

    return pixels("width"), pixels("height")


def _short(text: str) -> str:
    """In quotes, without control characters, at most about 40 characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")

"""Reader of one PASCAL VOC annotation (XML)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from phasewise.errors import BadSample

BACKGROUND = "background"
"""The class of index 0, which no object has."""

ROUNDING = 0.5
"""Coordinates up to this many pixels outside the image are clipped: some tools write fractions.
Whole numbers outside are never that near."""

REASONS_SHOWN = 5
"""How many reasons about one annotation are spelled out before the rest is counted."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VocObject:
    """One object: its class and ``x1, y1, x2, y2`` in pixels, continuous edges, 0-based."""

    class_name: str
    box: Box
    difficult: bool


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
    """Read a VOC annotation: box edges become ``xmin - 1, ymin - 1, xmax, ymax``.

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
    root = _xml_root(path, name or str(path))
    objects, reasons = [], []
    for number, element in enumerate(root.findall("object"), 1):
        class_name = (element.findtext("name") or "").strip()
        box, wrong = _read_box(element.find("bndbox"), size)
        wrong = _class_reasons(class_name, class_names) + wrong
        reasons += [f"object {number} ({_short(class_name)}): {reason}" for reason in wrong]
        difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
        if box is not None:
            objects.append(VocObject(class_name, box, difficult))
    if reasons:
        more = len(reasons) - REASONS_SHOWN
        shown = reasons[:REASONS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise BadSample(name or str(path), "; ".join(shown))
    return Annotation(tuple(objects), _declared_size(root.find("size")))


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


def _read_box(
    element: Element | None, size: tuple[int, int] | None
) -> tuple[Box | None, list[str]]:
    """The box with continuous edges, or None and the reasons."""
    if element is None:
        return None, ["no bndbox"]
    edges, reasons = [], []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(tag)
        try:
            edges.append(float(text or ""))
            if not math.isfinite(edges[-1]):
                reasons.append(f"{tag} is not finite")
        except ValueError:
            reasons.append(f"no {tag}" if not text else f"{tag}={_short(text)} is not a number")
    if reasons:
        return None, reasons
    clipped = list(edges)
    for axis, side in enumerate("xy"):
        low, high = edges[axis], edges[axis + 2]
        if high <= low:
            reasons.append(f"{side}max={high:g} <= {side}min={low:g}")
        elif size is not None and (low - 1 < -ROUNDING or high > size[axis] + ROUNDING):
            reasons.append(f"{side} {low:g}..{high:g} lies outside the image 1..{size[axis]}")
        clipped[axis] = low - 1 if size is None else max(low - 1, 0.0)
        clipped[axis + 2] = high if size is None else min(high, float(size[axis]))
    x1, y1, x2, y2 = clipped
    return (None, reasons) if reasons else ((x1, y1, x2, y2), [])


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

"""The classes of a set in PASCAL VOC layout, as a file beside it names them.

``labels.txt`` is ours and labelme's, ``class_names.txt`` labelme's, ``labelmap.txt`` CVAT's and
datumaro's, which also has the colour of each class in masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phasewise.data.images import VOID
from phasewise.data.splits import read_list
from phasewise.data.voc_xml import BACKGROUND
from phasewise.errors import UserError

LABELS, CLASS_NAMES, LABEL_MAP = "labels.txt", "class_names.txt", "labelmap.txt"
FILES = (LABELS, CLASS_NAMES, LABEL_MAP)
"""The first that is there is read."""

IGNORED = "__ignore__"
"""What labelme calls pixels without a label; it has no index."""

VOID_NAMES = ("ignore", "ignored", "void")
"""What labels of pixels without a label are called, in lower case and without underscores."""

Colour = tuple[int, int, int]

VOC_VOID: Colour = (224, 224, 192)
"""PASCAL VOC's colour of pixels without a label."""


@dataclass(frozen=True)
class Labels:
    """The classes that a file names.

    Attributes:
        file: which, as messages call it.
        names: by class index, ``"background"`` first.
        values: class index by mask value (`VOID` of what is no class); empty: they are the same.
        colours: class index by colour; empty where the file has none.
    """

    file: str
    names: list[str]
    values: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] = field(default_factory=dict)


def read_labels(root: Path) -> Labels | None:
    """The classes of the first of `FILES`; None without such a file.

    Raises:
        UserError: it names no class, too many, or one twice; or it cannot be read.
    """
    file = next((name for name in FILES if (root / name).is_file()), None)
    if file is None:
        return None
    path = root / file
    listed = read_list(path, file)
    if file == LABEL_MAP:
        return _label_map(path, listed.names)
    # labelme writes "_background_", others "__background__".
    names = [BACKGROUND if name.strip("_") == BACKGROUND else name for name in listed.names]
    if names[:1] == [IGNORED]:
        del names[0]
    if listed.duplicates:
        raise UserError(f"{path} names {', '.join(listed.duplicates)} more than once")
    if BACKGROUND in names[1:]:
        raise UserError(f"{path}: {BACKGROUND} has index 0 and must be the first line")
    if not names or names[0] != BACKGROUND:
        names.insert(0, BACKGROUND)
    return Labels(file, _counted(path, names))


def from_colours(colours: Mapping[str, Sequence[int]], known: Sequence[str] | None) -> Labels:
    """The classes of ``data.colors``.

    Args:
        colours: red, green and blue by class, 0 to 255; black is background where none is.
        known: the classes that another file names, whose indices they get.

    Raises:
        UserError: not three such numbers, one colour of two classes, or an unknown class.
    """
    key = "data.colors"
    found: dict[Colour, str] = {}
    for name, numbers in colours.items():
        if len(numbers) != 3 or any(not 0 <= it <= 255 for it in numbers):
            raise UserError(f"{key}: {name} must have red, green and blue, each 0 to 255")
        colour = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
        if colour in found:
            raise UserError(f"{key}: {found[colour]} and {name} have the same colour")
        found[colour] = name
    if not any(_is_background(name) for name in found.values()):
        found.setdefault((0, 0, 0), BACKGROUND)
    if known is None:
        known = [BACKGROUND, *(name for name in found.values() if not _is_no_class(name))]
        _counted(key, known)
    indices = {}
    for colour, name in found.items():
        if not _is_no_class(name) and name not in known:
            raise UserError(f"{key}: unknown class {name!r}; known are {', '.join(known[1:])}")
        indices[colour] = _index(name, known)
    return Labels(key, list(known), {}, indices)


def _label_map(path: Path, lines: Sequence[str]) -> Labels:
    """CVAT's ``name:r,g,b:parts:actions``; lines that begin with # are comments."""
    entries: list[tuple[str, Colour | None]] = []
    for line in lines:
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        text = rest.partition(":")[0].strip()
        entries.append((name.strip(), _colour(path, line, text) if text else None))
    if not any(_is_background(name) for name, _ in entries):
        # the black one is what lies between objects, whatever it is called
        entries = [(BACKGROUND if it[1] == (0, 0, 0) else it[0], it[1]) for it in entries]
    if not any(_is_background(name) for name, _ in entries):
        entries.insert(0, (BACKGROUND, None))
    names = [BACKGROUND, *(name for name, _ in entries if not _is_no_class(name))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path} names {', '.join(twice)} more than once")
    _counted(path, names)
    indices = [_index(name, names) for name, _ in entries]
    values = dict(enumerate(indices))
    if all(value == index for value, index in values.items()):
        values = {}
    colours: dict[Colour, int] = {}
    for (name, colour), index in zip(entries, indices, strict=True):
        if colour is not None and colours.setdefault(colour, index) != index:
            raise UserError(f"{path}: the colour of {name} is that of another class")
    return Labels(LABEL_MAP, names, values, colours)


def _colour(path: Path, line: str, text: str) -> Colour:
    try:
        red, green, blue = (int(number) for number in text.split(","))
        if min(red, green, blue) < 0 or max(red, green, blue) > 255:
            raise ValueError
    except ValueError:
        reason = "must be name:red,green,blue:parts:actions, colours 0 to 255"
        raise UserError(f"{path}: {line[:60]!r} {reason}") from None
    return red, green, blue


def _is_background(name: str) -> bool:
    return name.strip("_").lower() == BACKGROUND


def _is_no_class(name: str) -> bool:
    return _is_background(name) or name.strip("_").lower() in VOID_NAMES


def _index(name: str, names: Sequence[str]) -> int:
    if _is_background(name):
        return 0
    return VOID if name not in names else names.index(name)


def _counted(path: Path | str, names: list[str]) -> list[str]:
    if not 2 <= len(names) <= VOID:
        raise UserError(f"{path} names {len(names) - 1} classes; 1 to {VOID - 1} are possible")
    return names


def voc_colours(count: int) -> dict[Colour, int]:
    """PASCAL VOC's colours of the first ``count`` classes, and of void, by colour.

    From the three lowest bits of an index on, one bit each of red, green and blue, the highest
    first (VOCcolormap of the VOC development kit).
    """
    found: dict[Colour, int] = {VOC_VOID: VOID}
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        found[channels[0], channels[1], channels[2]] = index
    return found

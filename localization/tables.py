"""Tables of boxes: our own, and those of TensorFlow, Roboflow, VIA, makesense and keras-retinanet.

What differs between them is where a row says which image, which box and which class it is about.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from phasewise.data.annotated import Box, number
from phasewise.data.images import IMAGE_SUFFIXES
from phasewise.errors import BadSample, Problem, UserError

COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax")
"""Of a table of our own."""

FILES = ("file", "filename", "file_name", "image", "image_name", "image_path", "img_path", "path")
CLASSES = ("class", "label", "class_name", "label_name", "category", "name")
CORNERS = (
    COLUMNS[1:],
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
CORNER_AND_SIZE = (
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
)
SIZES = (("width", "height"), ("image_width", "image_height"), ("img_width", "img_height"))

SHAPE, ATTRIBUTES = "region_shape_attributes", "region_attributes"
"""Columns of VIA, with JSON in their cells."""

MAKESENSE = (*("label_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height"),
             *("image_name", "image_width", "image_height"))  # fmt: skip
RETINANET = ("path", "x1", "y1", "x2", "y2", "class")
"""Tables without a header."""


@dataclass(frozen=True)
class Dialect:
    """Where the rows of a table say what.

    Attributes:
        file, classes: columns; the latter may be empty.
        edges: four columns with numbers; of VIA empty.
        is_size: whether the latter two edges are width and height.
        stated: columns with the width and height of the image, if there are such.
    """

    file: str
    edges: Sequence[str]
    classes: str = ""
    is_size: bool = False
    stated: Sequence[str] = ()

    def class_of(self, row: Mapping[str, str]) -> str:
        """What stands there, perhaps nothing."""
        if self.edges or not self.classes:
            return row.get(self.classes, "")
        value = _json(row.get(ATTRIBUTES, "")).get(self.classes, "")
        chosen = (
            [key for key, is_on in value.items() if is_on] if isinstance(value, dict) else value
        )
        return ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen).strip()

    def is_empty(self, row: Mapping[str, str]) -> bool:
        """Whether the row says that there is no object in the image."""
        return not (any(row[key] for key in self.edges) if self.edges else _json(row[SHAPE]))

    def box(self, row: Mapping[str, str], name: str) -> Box:
        """x1, y1, x2, y2 as they stand there.

        Raises:
            BadSample: a number is missing or none, or VIA's shape has no box.
        """
        if not self.edges:
            return _shape_box(_json(row[SHAPE]), name)
        x1, y1, x2, y2 = (number(row[key], key, name) for key in self.edges)
        return (x1, y1, x1 + x2, y1 + y2) if self.is_size else (x1, y1, x2, y2)


@dataclass(frozen=True)
class Table:
    """The rows of a table, cells by column, without space around them."""

    file: str
    dialect: Dialect
    rows: list[dict[str, str]]


def read_table(root: Path, file: str, problems: list[Problem]) -> Table:
    """Read a table whose cells are separated by commas, by tabs, or by semicolons: then numbers
    may have a decimal comma.

    Args:
        root: ``data.root``.
        file: relative to it.
        problems: where lines are noted that cannot be read.

    Raises:
        UserError: no such file, not a table, no row, or columns are missing.
    """
    text = _text(root, file)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=lambda it: (header.count(it), it == ","))
    # Not pandas: it drops what is too long for the header, and all that follows an open quote.
    lines = csv.reader(
        StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        first = [cell.strip() for cell in next(lines, [])]
        columns = _headless(first)
        known = [cell.lower().lstrip("#").replace(" ", "_") for cell in first]
        dialect = _dialect(file, columns or known)
        rows = list(_rows(lines, file, columns or known, dialect, problems, separator == ";"))
        if columns:
            rows.insert(0, dict(zip(columns, first, strict=True)))
    except csv.Error as error:
        raise UserError(f"{file}, line {lines.line_num}: not a table ({error})") from None
    if not rows and not problems:
        raise UserError(f"{file} has a header and no row: it names no image")
    if not dialect.edges:
        dialect = Dialect(dialect.file, (), _attribute(file, rows))
    elif dialect.stated and all(_is_box_size(row, dialect) for row in rows):
        dialect = Dialect(dialect.file, dialect.edges, dialect.classes, dialect.is_size)
    return Table(file, dialect, rows)


def _rows(
    lines: Any,
    file: str,
    columns: Sequence[str],
    dialect: Dialect,
    problems: list[Problem],
    decimal_comma: bool,
) -> Iterator[dict[str, str]]:
    """Lines without a file are noted."""
    for line in lines:
        cells = [cell.strip() for cell in line]
        if not any(cells):  # spreadsheets append lines of separators
            continue
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        if decimal_comma:
            row |= {key: row[key].replace(",", ".") for key in dialect.edges}
        if any(cells[len(columns) :]) or not row[dialect.file]:
            what = "more cells than the header" if row[dialect.file] else "no file"
            problems.append(Problem(f"{file}, line {lines.line_num}", what))
        else:
            yield row


def _headless(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table whose first line is a row already; none if it is a header."""

    def are_numbers(part: Sequence[str]) -> bool:
        try:
            return all(float(cell) == float(cell) for cell in part)
        except ValueError:
            return False

    def is_image(cell: str) -> bool:
        return cell.lower().endswith(IMAGE_SUFFIXES)

    if len(cells) == 8 and is_image(cells[5]) and are_numbers([*cells[1:5], *cells[6:]]):
        return MAKESENSE
    if len(cells) == 6 and is_image(cells[0]):
        return RETINANET if are_numbers(cells[1:5]) or not any(cells[1:]) else ()
    return ()


def _dialect(file: str, columns: Sequence[str]) -> Dialect:
    """
    Raises:
        UserError: columns are missing, or there twice.
    """

    def first(choices: Sequence[str]) -> str:
        return next((it for it in choices if it in columns), "")

    def all_of(choices: Sequence[Sequence[str]]) -> Sequence[str]:
        return next((it for it in choices if {*it} <= {*columns}), ())

    twice = [column for column, count in Counter(columns).items() if column and count > 1]
    image, corners, sized = first(FILES), all_of(CORNERS), all_of(CORNER_AND_SIZE)
    if image and SHAPE in columns and ATTRIBUTES in columns and not twice:
        return Dialect(image, ())
    if not image or twice or not (corners or sized):
        missing = [column for column in COLUMNS if column not in columns]
        what = f"has {', '.join(twice)} twice" if twice else f"lacks {', '.join(missing)}"
        needed = f"needed: {', '.join(COLUMNS)}; possible: class, split"
        others = "or a table of TensorFlow, Roboflow, VIA or makesense as it is"
        raise UserError(f"{file} {what}. Its columns: {', '.join(columns)}; {needed}; {others}")
    edges = corners or sized
    own = image == "file" and edges == COLUMNS[1:]
    stated = next((it for it in SIZES if {*it} <= {*columns} and not {*it} & {*edges}), ())
    classes = first(("class",) if own else CLASSES)  # others in a table of our own are remarks
    return Dialect(image, edges, classes, not corners, stated)


def _is_box_size(row: Mapping[str, str], dialect: Dialect) -> bool:
    """Whether width and height seem to be those of the box, not of the image."""
    try:
        x1, y1, x2, y2 = dialect.box(row, "")
        width, height = (float(row[key]) for key in dialect.stated)
    except (BadSample, ValueError):
        return True
    return abs(x2 - x1 - width) <= 1 and abs(y2 - y1 - height) <= 1


# --- VIA: JSON in cells ---------------------------------------------------------------------------


def _json(cell: str) -> dict[str, Any]:
    try:
        found = json.loads(cell or "{}")
    except ValueError:
        return {"name": cell[:40]}
    return found if isinstance(found, dict) else {"name": str(found)[:40]}


def _attribute(file: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The attribute of regions that is the class; empty if they have none.

    Raises:
        UserError: there are several, and none is called like a class.
    """
    there = list(dict.fromkeys(key for row in rows for key in _json(row[ATTRIBUTES])))
    called = [key for word in (*CLASSES, "type") for key in there if key.lower() == word]
    if len(there) > 1 and not called:
        what = f"regions have {', '.join(there)}, and none is called class"
        raise UserError(f"{file}: {what}; call the one that is the class so")
    return next(iter(called or there), "")


def _shape_box(shape: Mapping[str, Any], name: str) -> Box:
    kind = str(shape.get("name"))

    def value(key: str) -> float:
        return number(shape.get(key), key, name)

    if kind == "rect":
        x, y = value("x"), value("y")
        return x, y, x + value("width"), y + value("height")
    if kind in ("circle", "ellipse"):
        x, y = value("cx"), value("cy")
        across, down = (value("r"),) * 2 if kind == "circle" else (value("rx"), value("ry"))
        if kind == "ellipse" and shape.get("theta"):
            raise BadSample(name, "a turned ellipse (theta); a rectangle is needed")
        return x - across, y - down, x + across, y + down
    if kind in ("polygon", "polyline"):
        xs, ys = (
            [number(it, key, name) for it in shape.get(key) or ()]
            for key in ("all_points_x", "all_points_y")
        )
        if len(xs) == len(ys) >= 2:
            return min(xs), min(ys), max(xs), max(ys)
    raise BadSample(name, f"{kind[:40]!r} has no box; rect, circle, ellipse, polygon have")


def _text(root: Path, file: str) -> str:
    try:
        raw = (root / file).read_bytes()
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if wide else "utf-8-sig").lstrip()
    except UnicodeDecodeError:
        raise UserError(f"data.file={file} is not text in UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        there = [path.relative_to(root).as_posix() for path in root.glob("**/*.csv")]
        others = ", ".join(sorted(there)[:10]) or "none"
        reason = f"{error.strerror}. CSV files in data.root={root}: {others}"
        raise UserError(f"data.file={file} cannot be read: {reason}") from None

"""What a report consists of, before it becomes Markdown or HTML: sections of blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Kind = Literal["text", "number", "count", "signed", "percent", "duration", "spread", "interval"]
"""How a column is written. ``spread`` is (mean, standard deviation), ``interval`` (low, high);
``percent`` is in percent, ``duration`` in seconds; a ``count`` is whole, unless it is a mean."""

Mark = Literal["", "best", "worst", "bad"]


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``note`` for what qualifies a result, ``warning`` for a problem."""

    text: str
    tone: Literal["", "note", "warning"] = ""
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    block: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Command:
    """What can be pasted into a shell."""

    text: str
    block: ClassVar[str] = "command"


@dataclass(frozen=True)
class Source:
    """A text to paste or to name on a command line, which is also a file of the report."""

    path: str
    caption: str
    text: str
    block: ClassVar[str] = "source"


@dataclass(frozen=True)
class Column:
    """A column's title and how its cells are written."""

    title: str
    kind: Kind = "text"

    @property
    def is_numeric(self) -> bool:
        """Whether cells align on the right."""
        return self.kind != "text"


@dataclass
class Table:
    """A table, whose cells are unrounded; ``None`` and NaN are missing.

    Attributes:
        name: of its files, without ending.
        caption: what it shows.
        columns: one per cell of a row.
        rows: the cells.
        marks: one per row: what colours it.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: list[Sequence[Any]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    block: ClassVar[str] = "table"

    def add(self, *cells: Any, mark: Mark = "") -> None:
        """Append a row.

        Raises:
            ValueError: not one cell per column.
        """
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns of {self.name}")
        self.rows.append(cells)
        self.marks.append(mark)

    def drop_empty(self, *names: str) -> None:
        """Leave out those of the named columns that have no value in any row."""
        kept = [
            place
            for place, column in enumerate(self.columns)
            if column.title not in names or not all(_is_missing(row[place]) for row in self.rows)
        ]
        self.columns = [self.columns[place] for place in kept]
        self.rows = [[row[place] for place in kept] for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A drawing, made only when it is written; ``caption`` also says it to those who cannot see."""

    name: str
    caption: str
    draw: Callable[[], Drawing]
    block: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Picture:
    """An image that a run left."""

    name: str
    caption: str
    source: Path
    block: ClassVar[str] = "picture"


@dataclass(frozen=True)
class FindingBlock:
    """What a rule of the audit found: what it rests on, and what to do about it.

    ``rows`` are those of a table, where it found something in several phases: the phase, what was
    found there, a trial with its numbers.
    """

    title: str
    severity: str
    evidence: Sequence[str]
    advice: str
    rows: Sequence[tuple[str, str, str]] = ()
    block: ClassVar[str] = "finding"


Block = Text | Bullets | Command | Source | Table | Figure | Picture | FindingBlock


@dataclass
class Section:
    """A heading with its blocks; ``parts`` are sections below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    parts: list[Section] = field(default_factory=list)
    anchor: str = ""

    def __post_init__(self) -> None:
        self.anchor = self.anchor or slug(self.title)


@dataclass
class Report:
    """All of it; ``facts`` stand below the title, ``is_running`` if more is to come."""

    title: str
    facts: list[tuple[str, str]]
    sections: list[Section]
    is_running: bool = False


def slug(text: str) -> str:
    """A name that is safe in file names, anchors and addresses.

    >>> slug("Phase 1: Learning rate")
    'phase_1_learning_rate'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "_"


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))

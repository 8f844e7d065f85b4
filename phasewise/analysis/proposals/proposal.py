"""A phase that would answer what a study has left open, and the reason for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

Cell = tuple[str, ...]
"""Overrides of one configuration, one value each, on top of the final one."""

UNCLEAR = ("name",)
"""Last parts of keys that say nothing without the one before."""

CanRun = Callable[[Cell], bool]
"""Whether such a configuration is valid at all; only the schema of its task knows."""


@dataclass(frozen=True)
class Proposal:
    """One comparison with the final configuration, which is a candidate too.

    Attributes:
        rule: what was found: ``edge``, ``interaction``, ``untried``, ``fine_tuning``, ``longer``,
            ``seeds`` or ``validation``.
        name: of the phase, letters, digits and ``_``.
        cells: the configurations.
        reason: why, in a sentence with its numbers.
        seeds: with which they run; ``None`` for those of the study.
        settings: overrides of the whole study: what was found before is judged anew, so that it
            has to be a study of its own.
    """

    rule: str
    name: str
    cells: tuple[Cell, ...]
    reason: str
    seeds: tuple[int, ...] | None = None
    settings: tuple[str, ...] = ()

    def allowed(self, can_run: CanRun) -> Proposal:
        """The same without configurations that cannot run."""
        return replace(self, cells=tuple(cell for cell in self.cells if can_run(cell)))

    def phase(self) -> dict[str, Any]:
        """What stands under ``study.phases.NAME``."""
        line = one_line(self.cells)
        found: dict[str, Any] = {"overrides": line} if line else {}
        if not line:
            found["combinations"] = [" ".join(cell) for cell in self.cells]
        if self.seeds is not None:
            found["seeds"] = list(self.seeds)
        return {**found, "reason": self.reason}

    def typed(self) -> str:
        """The configurations in a line, as one would type them."""
        return one_line(self.cells) or "; ".join(" ".join(cell) for cell in self.cells)


@dataclass(frozen=True)
class Proposals:
    """All that a study proposes.

    Attributes:
        phases: in the order in which they are to run, each from the winner of the one before it.
        told: what needs no phase, or can have none, in sentences.
    """

    phases: tuple[Proposal, ...] = ()
    told: tuple[str, ...] = field(default=())


def one_line(cells: Sequence[Cell]) -> str:
    """The words after ``-m`` that make exactly these configurations; empty if none do.

    >>> one_line([("a=1", "b=2"), ("a=1", "b=3")]), one_line([("a=1",), ("b=2",)])
    ('a=1 b=2,3', '')
    """
    values: dict[str, dict[str, None]] = {}
    for word in (word for cell in cells for word in cell):
        key, _, value = word.partition("=")
        values.setdefault(key, {})[value] = None
    words = [[f"{key}={value}" for value in those] for key, those in values.items()]
    whole = {frozenset(cell) for cell in product(*words)}
    if not cells or whole != {frozenset(cell) for cell in cells}:
        return ""
    return " ".join(f"{key}={','.join(those)}" for key, those in values.items())


def last_name(key: str) -> str:
    """A key as part of a phase's name.

    >>> last_name("optimizer.lr"), last_name("loss.name")
    ('lr', 'loss_name')
    """
    *_, section, name = ["", *key.lstrip("+~").replace("/", ".").split(".")]
    name = f"{section}_{name}" if name in UNCLEAR and section else name
    return "".join(letter if letter.isalnum() else "_" for letter in name)

"""Which phase of a study starts from which; where nothing else is said, from the one before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from phasewise.config.help import not_one_of
from phasewise.errors import Problem

START = "start"
"""What ``from`` calls the configuration that the study starts from."""


class _Spec(Protocol):
    """What a study's file says of a phase, as far as it matters here."""

    @property
    def source(self) -> str | None: ...
    @property
    def rerun(self) -> object | None: ...


class _Planned(Protocol):
    """The same in a journal."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def kind(self) -> str: ...


@dataclass(frozen=True)
class Tree:
    """The phases of a study, each with those that it builds on.

    Attributes:
        parents: of each phase, in the order of the file: one, or none where it starts from the
            study's start. Only a rerun may have several, whose best configurations it takes.
    """

    parents: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> list[str]:
        """All phases, in the order of the file."""
        return list(self.parents)

    @property
    def is_chain(self) -> bool:
        """Whether each phase builds on the one before it."""
        before = [(), *((name,) for name in self.names)]
        return all(one == other for one, other in zip(self.parents.values(), before, strict=False))

    @property
    def leaves(self) -> list[str]:
        """The phases that no other builds on."""
        return _leaves(self.parents)

    def upstream(self, name: str) -> list[str]:
        """The phases that one builds on, directly or through others, in the order of the file."""
        found: set[str] = set()
        left = [*self.parents[name]]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.parents[one]
        return [one for one in self.names if one in found]

    def steps(self, *, side_by_side: bool) -> Iterator[list[str]]:
        """The phases in an order in which they can run.

        Args:
            side_by_side: whether all that are ready make one step; else each is a step.
        """
        if not side_by_side:
            yield from ([name] for name in self.names)
            return
        done: set[str] = set()
        while len(done) < len(self.parents):
            ready = [
                name
                for name, those in self.parents.items()
                if name not in done and done.issuperset(those)
            ]
            yield ready
            done.update(ready)

    def depths(self) -> dict[str, int]:
        """How far each phase is from the start, in the order in which a tree is drawn: what builds
        on a phase follows it. A phase with several parents stands below the last of them."""
        below: dict[str, list[str]] = {}
        for name, those in self.parents.items():
            below.setdefault(those[-1] if those else "", []).append(name)
        found: dict[str, int] = {}

        def add(names: Sequence[str], depth: int) -> None:
            for name in names:
                found[name] = depth
                add(below.get(name, ()) if name else (), depth + 1)

        add(below.get("", ()), 0)
        return found


def _leaves(parents: Mapping[str, Collection[str]]) -> list[str]:
    inner = {one for those in parents.values() for one in those}
    return [name for name in parents if name not in inner]


def tree_of(phases: Iterable[tuple[str, str | None, bool]]) -> Tree:
    """The tree of phases.

    Args:
        phases: name, ``from``, and whether it is a rerun, of each in the order of the file. A rerun
            without ``from`` builds on all that nothing else builds on.
    """
    parents: dict[str, tuple[str, ...]] = {}
    for name, source, reruns in phases:
        last = tuple(parents)[-1:]
        if source == START:
            parents[name] = ()
        elif source in parents:
            parents[name] = (source,)
        else:
            parents[name] = tuple(_leaves(parents)) if reruns else last
    return Tree(parents)


def tree_of_specs(phases: Mapping[str, _Spec]) -> Tree:
    """The tree of what a study's file says."""
    return tree_of((name, one.source, one.rerun is not None) for name, one in phases.items())


def tree_of_plan(phases: Iterable[_Planned]) -> Tree:
    """The tree of what a journal says; the test is no part of it."""
    own = [phase for phase in phases if phase.kind != "test"]
    return tree_of((phase.name, phase.source, phase.kind == "rerun") for phase in own)


def wrong_sources(phases: Mapping[str, _Spec]) -> Iterator[Problem]:
    """Every ``from`` that is no phase before its own."""
    before: list[str] = []
    for name, spec in phases.items():
        source, key = spec.source, f"study.phases.{name}.from={spec.source}"
        if source == name:
            yield Problem(key, "is the phase itself; it starts from an earlier one, or from start")
        elif source == START and START in phases:
            yield Problem(key, "is the start of the study, and a phase too: call that another name")
        elif source in phases and source not in before:
            yield Problem(key, "comes after it; a phase starts from an earlier one, or from start")
        elif source not in (None, START, *before):
            yield Problem(key, not_one_of(source, [START, *before]))
        before.append(name)

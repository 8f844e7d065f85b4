"""What a run's record says of its parts in a study: in which phase, which number, which role.

A run may have several: the winner of one phase is the incumbent of the next, and the final
configuration is tested where it was trained. From these a study can be read without its journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from phasewise.records.record import read_record
from phasewise.study.journal import Phase

Role = Literal["candidate", "incumbent", "final", "start"]
"""The last two are the configurations of a test."""


@dataclass(frozen=True, order=True)
class Membership:
    """A part in a study; phases are numbered from 1."""

    number: int
    phase: str
    role: Role


def role_of(phase: Phase, row: int) -> Role:
    """Of a phase's candidate."""
    if phase.kind == "test":
        return "final" if row == 0 else "start"
    return "incumbent" if row == phase.incumbent else "candidate"


def read_memberships(part: Any) -> tuple[str, list[Membership]]:
    """The study's name and the places from a record's ``study``; none from anything else."""
    try:
        found = [Membership(int(p["number"]), str(p["phase"]), p["role"]) for p in part["places"]]
        return str(part["name"]), [one for one in found if one.role in get_args(Role)]
    except (TypeError, KeyError, ValueError, OverflowError):
        return "", []


class Memberships:
    """The places of all runs of a study, as far as it has come.

    Args:
        name: of the study.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: dict[Path, set[Membership]] = {}

    def add(self, directory: Path, place: Membership) -> None:
        """Give a run another place; its record says so at once, if there is one."""
        self._known.setdefault(directory, set()).add(place)
        self._write(directory, keep=True)

    def settle(self) -> None:
        """Take out of the records what only an earlier call said."""
        for directory in self._known:
            self._write(directory, keep=False)

    def word(self, directory: Path) -> str:
        """The override by which a run is told its places."""
        places = ",".join(
            f"{{phase:'{one.phase}',number:{one.number},role:{one.role}}}"
            for one in sorted(self._known[directory])
        )
        return f"++study.trial={{name:'{self.name}',places:[{places}]}}"

    def _write(self, directory: Path, *, keep: bool) -> None:
        record = read_record(directory)
        if record is None or record.status == "running":  # it is launched again, and told
            return
        name, before = read_memberships(record.study)
        wanted = self._known[directory]
        if keep and name == self.name:
            wanted = wanted.union(before)
        if name != self.name or set(before) != wanted:
            record.study = {**record.study, "name": self.name, "places": as_dicts(wanted)}
            record.write()


def as_dicts(places: Iterable[Membership]) -> list[dict[str, Any]]:
    """As they stand in a record."""
    return [
        {"phase": one["phase"], "number": one["number"], "role": one["role"]}
        for one in map(asdict, sorted(places))
    ]

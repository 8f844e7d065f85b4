"""The branches of a phase, and the phase that a study ended with, from the records of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from phasewise.records.record import RunRecord
from phasewise.study.branches import decide_branches
from phasewise.study.decision import Runs, decide
from phasewise.study.journal import Branch, Journal, Phase
from phasewise.study.leaves import choose_leaf, value_by
from phasewise.study.saved_config import SavedConfig
from phasewise.study.selection import Values
from phasewise.study.tree import tree_of_plan
from phasewise.text import format_value


class _Run(Protocol):
    """`phasewise.study.rebuild.Run`, as far as it matters here."""

    directory: Path
    record: RunRecord | None
    seed: int

    @property
    def saved(self) -> SavedConfig: ...


def add_branches(
    phase: Phase,
    groups: Sequence[Sequence[_Run]],
    records: Sequence[Runs],
    spec: Mapping[str, Any],
    adopting: Mapping[str, Any],
) -> None:
    """What a study's file says of a phase's place among the others, and its branches.

    What a branch started from is known where one of its configurations ran in an earlier phase.

    Args:
        phase: with its candidates.
        groups: the runs of each candidate.
        records: of each candidate, by seed.
        spec: what the file says of the phase, if that is more than overrides.
        adopting: how the study decides, for `phasewise.study.decision.decide`.
    """
    again = spec.get("rerun")
    per = again.get("per") if isinstance(again, Mapping) else spec.get("per")
    source = spec.get("from")
    phase.source = source if isinstance(source, str) else None
    if not isinstance(per, str):
        return
    phase.per = per
    levels: dict[str, list[int]] = {}
    for row, runs in enumerate(groups):
        levels.setdefault(_level(runs, per), []).append(row)
    for level, rows in levels.items():
        before = [row for row in rows if any(_is_elsewhere(run, phase) for run in groups[row])]
        start = phase.incumbent if phase.incumbent in rows else None
        start = before[0] if start is None and len(before) == 1 else start
        phase.branches.append(Branch(level, rows, start))
    decide_branches(phase, records, lambda part, runs: decide(part, runs, **adopting))


def _level(runs: Sequence[_Run], key: str) -> str:
    saved = runs[0].saved
    chosen = saved.choices.get(key)
    return str(chosen) if chosen is not None else format_value(saved.get(key))


def _is_elsewhere(run: _Run, phase: Phase) -> bool:
    return run.directory.parent.name != phase.name


def add_last(journal: Journal, groups: Mapping[str, Sequence[Sequence[_Run]]], goal: Phase) -> None:
    """Which of several last phases a study ended with, where all of them are decided.

    Args:
        journal: with its phases.
        groups: the runs of each candidate, by phase.
        goal: has the study's objectives.
    """
    known = {phase.name: phase for phase in journal.phases}
    leaves = [known[name] for name in tree_of_plan(journal.phases).leaves]
    if len(leaves) < 2 or any(phase.status != "completed" for phase in leaves):
        return
    found: dict[str, Values] = {}
    for phase in leaves:
        if phase.winner is None:
            return
        runs = groups[phase.name][phase.winner]
        records = {run.seed: run.record for run in runs if run.record is not None}
        found[phase.name] = {seed: value_by(record, goal) for seed, record in records.items()}
    journal.last, journal.last_reason = choose_leaf(found, journal.objective)

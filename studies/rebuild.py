"""The plan of a study from the records of its runs, where its journal is missing or damaged."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from common.errors import Problem
from common.runs.record import FINAL, RECORD, RunRecord, read_record
from studies.journal import JOURNAL, Candidate, Journal, Kind, Phase, Trial
from studies.naming import parse_overrides, trial_name
from studies.results import objective_value, plain, settings_of
from studies.saved import HYDRAS, Saved
from studies.selection import select
from studies.sound import ERRORS, unsound_record

SEED = "seed"
NOT_PHASES = frozenset({"superseded", "tables", "figures"})
"""Folders of a study that hold no phase."""

TEST = "test"
UNKNOWN = "objective"
"""Stands for the metric where no run left word of it."""


Goal = tuple[str, str, str]
"""Task, metric and mode: what only runs of one comparison share."""

T = TypeVar("T", bound=Hashable)


@dataclass
class Run:
    """A run directory.

    Attributes:
        phase: the folder that it lies in; empty if that is the study's own.
        words: its overrides without the seed; ``None`` if they cannot be read.
    """

    directory: Path
    phase: str
    record: RunRecord | None
    words: list[str] | None
    seed: int

    @classmethod
    def read(cls, directory: Path, phase: str) -> Run:
        """From the record, or, where there is none, from what Hydra wrote at the start."""
        record = read_record(directory)
        if record is not None and unsound_record(record) is not None:
            record = None
        words = record.overrides if record is not None else _hydras_words(directory)
        try:
            parsed = parse_overrides(words or [])
        except ERRORS:
            words, parsed = None, []
        typed = [o.value() for o in parsed if o.key_or_group == SEED]
        seed = record.seed if record is not None else next(reversed(typed), None)
        kept = [str(o.input_line) for o in parsed if o.key_or_group != SEED]
        own = None if words is None else kept
        return cls(directory, phase, record, own, seed if isinstance(seed, int) else 0)

    @property
    def goal(self) -> Goal | None:
        """From the record or the saved config; ``None`` if neither tells."""
        if self.record is not None:
            objective = self.record.objective
            return self.record.task, str(objective["metric"]), str(objective["mode"])
        saved = Saved(self.directory)
        keys = ("task.name", "objective.metric", "objective.mode")
        task, metric, mode = map(saved.get, keys)
        if isinstance(task, str) and isinstance(metric, str) and mode in ("max", "min"):
            return task, metric, mode
        return None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.record is not None and self.record.status in FINAL


def is_run(directory: Path) -> bool:
    """Whether a directory is a run's."""
    return os.path.lexists(directory / RECORD) or (directory / HYDRAS).is_dir()


def run_folders(directory: Path, problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    """Run directories in a study's and in its phases' folders, each with its phase's name."""
    for folder in _folders(directory, directory, problems):
        if is_run(folder):
            yield folder, ""
        elif folder.name not in NOT_PHASES:
            if (folder / JOURNAL).exists():
                problems.append(Problem(folder.name, "a study or sweep of its own; left out"))
                continue
            inside = _folders(folder, directory, problems)
            yield from ((one, folder.name) for one in inside if is_run(one))


def _folders(parent: Path, root: Path, problems: list[Problem]) -> Iterator[Path]:
    """The folders in a folder; one that is empty, or cannot be opened, is a problem."""
    name = parent.relative_to(root).as_posix()
    try:
        entries = sorted(parent.iterdir())
    except OSError as error:
        problems.append(Problem(name, f"cannot be read ({error.strerror or error})"))
        return
    if not entries:
        problems.append(Problem(name, "an empty directory"))
    for entry in entries:
        try:
            if entry.is_dir() and not entry.name.startswith("."):
                (entry / RECORD).exists()  # raises where the folder cannot be looked into
                yield entry
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
            problems.append(Problem(entry.relative_to(root).as_posix(), reason))


def rebuild(directory: Path, runs: Sequence[Run], problems: list[Problem]) -> Journal | None:
    """The plan that runs of one task make; ``None`` if there is no usable run.

    Runs of another task, or of another objective than most of their folder, and those whose
    overrides cannot be read become problems. Phases are in the order in which their runs were given
    more and more overrides, then in order of time.
    """
    task = _most([run.goal[0] for run in runs if run.goal is not None], "")
    folders: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        folders[run.phase].append(run)
    groups: list[tuple[list[Run], Goal]] = []
    for group in folders.values():
        goals = [run.goal for run in group if run.goal is not None and run.goal[0] == task]
        goal = _most(goals, (task, UNKNOWN, "max"))
        kept = [run for run in group if _belongs(run, goal, directory, problems)]
        if kept:
            groups.append((kept, goal))
    if not groups:
        return None
    groups.sort(key=lambda pair: _rank(pair[0]))
    phases: list[Phase] = []
    everything: list[Run] = []
    for group, (_, metric, mode) in groups:
        phases.append(_phase(group, everything, {"metric": metric, "mode": mode}, directory))
        everything += group
    done = all(phase.status == "completed" for phase in phases)
    _, metric, mode = _most([run.goal for run in everything if run.goal is not None], groups[0][1])
    return Journal(
        directory=directory,
        name=directory.resolve().name,
        task=task,
        command=[],
        objective={"metric": metric, "mode": mode},
        seeds=sorted({run.seed for run in everything}),
        base=_shared([run.words or [] for run in everything]),
        phases=phases,
        status="completed" if done else "interrupted",
    )


def _most(values: Sequence[T], default: T) -> T:
    """The most frequent one."""
    return Counter(values).most_common(1)[0][0] if values else default


def _belongs(run: Run, goal: Goal, directory: Path, problems: list[Problem]) -> bool:
    name = run.directory.relative_to(directory).as_posix()
    if run.words is None:
        problems.append(Problem(name, "no run: it has neither a record nor overrides"))
        return False
    if run.goal not in (goal, None):
        task, metric, mode = run.goal or goal
        reason = f"a run of another task or objective ({task}, {mode} {metric}); left out"
        problems.append(Problem(name, reason))
        return False
    return True


def _rank(runs: Sequence[Run]) -> tuple[bool, int, float, str]:
    phase = runs[0].phase
    times = [math.inf]
    for run in runs:
        with suppress(OSError):
            times.append((run.directory / RECORD).stat().st_mtime)
    return phase == TEST, len(_shared([run.words or [] for run in runs])), min(times), phase


def _phase(
    runs: Sequence[Run], earlier: Sequence[Run], objective: dict[str, str], directory: Path
) -> Phase:
    base = _shared([run.words or [] for run in runs])
    groups: dict[frozenset[str], list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run.words or []), []).append(run)
    wanted = _identity(base)
    if wanted not in groups:  # what the phase started from may have run in an earlier one
        before = {run.directory: run for run in earlier if _computes(run, base)}
        if before:
            groups[wanted] = [*before.values()]
    candidates, values = [], []
    for group in groups.values():
        group.sort(key=lambda run: run.seed)
        own = [word for word in group[0].words or [] if _canonical(word) not in wanted]
        candidates.append(Candidate(own, [_trial(run, directory) for run in group]))
        values.append({r.seed: objective_value(r.record) for r in group if r.record is not None})
    seeds = sorted({run.seed for run in runs})
    incumbent = list(groups).index(wanted) if wanted in groups and len(groups) > 1 else None
    declared = _declared(candidates)
    done = all(run.is_final for run in runs)
    phase = Phase(
        name=runs[0].phase,
        kind=_kind(runs[0].phase, candidates, declared),
        objective=objective,
        seeds=seeds,
        base=base,
        declared=declared,
        candidates=candidates,
        status="completed" if done else "running",
        incumbent=incumbent,
    )
    if phase.kind != "test":
        choice = select(values, incumbent, mode=objective["mode"], seeds=seeds)
        phase.winner, phase.reason = choice.winner, choice.reason
        phase.verdict = choice.verdict
    return phase


def _computes(run: Run, base: Sequence[str]) -> bool:
    """Whether a run has these settings; some may be its config's defaults."""
    own = _identity(run.words or [])
    if not own <= _identity(base):
        return False
    unnamed = settings_of([word for word in base if _canonical(word) not in own])
    saved = Saved(run.directory)
    return all(plain(saved.get(key)) == plain(value) for key, value in unnamed.items())


def _kind(phase: str, candidates: Sequence[Candidate], declared: dict[str, list[str]]) -> Kind:
    if phase == TEST:
        return "test"
    cells = math.prod(len(values) for values in declared.values())
    plain = [one for one in candidates if one.overrides]
    return "grid" if len(plain) == cells else "combinations"


def _trial(run: Run, directory: Path) -> Trial:
    # no record has an empty fingerprint: an unreadable one stays unread
    mark = run.record.identity if run.record is not None else ""
    return Trial(run.seed, run.directory.relative_to(directory).as_posix(), mark)


def _declared(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """The values of each key, as text, that candidates set to different ones; numbers in order."""
    values: dict[str, dict[str, Any]] = {}
    for candidate in candidates:
        for override in parse_overrides(candidate.overrides):
            text = override.get_value_element_as_str() if override.value_type else "(removed)"
            values.setdefault(override.key_or_group, {})[text] = override.value()
    found = {}
    for key, known in values.items():
        numeric = all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in known.values()
        )
        found[key] = sorted(known, key=lambda text: known[text]) if numeric else list(known)
    return found


def _shared(lists: Sequence[Sequence[str]]) -> list[str]:
    """The overrides that all lists have."""
    common = frozenset.intersection(*map(_identity, lists))
    return [word for word in lists[0] if _canonical(word) in common]


def _identity(words: Sequence[str]) -> frozenset[str]:
    """The same for the same settings, whatever their order or notation."""
    return frozenset(map(_canonical, words))


@lru_cache(maxsize=4096)
def _canonical(word: str) -> str:
    return trial_name([word])


def _hydras_words(directory: Path) -> list[str] | None:
    try:
        text = (directory / HYDRAS / "overrides.yaml").read_text(encoding="utf-8")
        words = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return words if isinstance(words, list) and all(isinstance(w, str) for w in words) else None

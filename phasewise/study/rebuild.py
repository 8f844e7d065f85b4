"""The plan of a study from the records of its runs, where its journal is missing or damaged."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra.errors import HydraException

from phasewise.config.lifecycle import own_overrides
from phasewise.errors import Problem
from phasewise.records.record import RECORD, RunRecord, read_record
from phasewise.study.decision import decide
from phasewise.study.goals import saved_goals
from phasewise.study.job import FUNCTION
from phasewise.study.journal import Candidate, Journal, Kind, Origin, Phase, Trial
from phasewise.study.membership import Membership, Role, read_memberships
from phasewise.study.naming import parse_overrides, trial_name
from phasewise.study.rebuild_branches import add_branches, add_last
from phasewise.study.results import (
    as_setting,
    has_readable_overrides,
    settings_of,
)
from phasewise.study.saved_config import HYDRA_FOLDER, MULTIRUN, SavedConfig, look_up, read_yaml

SEED = "seed"

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
        phase: its phase: the folder that it lies in, empty if that is the study's own, until
            `_parts` has looked at ``places``.
        words: its overrides without the seed; ``None`` if they cannot be read.
        study, places: its parts in a study, by its record or, without one, its config; records of
            older versions tell none.
    """

    directory: Path
    phase: str
    record: RunRecord | None
    words: list[str] | None
    seed: int
    study: str = ""
    places: list[Membership] = field(default_factory=list)
    number: int | None = None
    role: Role | None = None

    @classmethod
    def read(cls, directory: Path, phase: str) -> Run:
        """From the record, or, where there is none, from what Hydra wrote at the start."""
        record = read_record(directory)
        if record is not None and not has_readable_overrides(record):
            record = None
        words = record.overrides if record is not None else _hydra_overrides(directory)
        try:
            parsed = parse_overrides(words or [])
        except (HydraException, ValueError):
            words, parsed = None, []
        repeats = SEED if record is None else (record.study or {}).get("seed_key", SEED)
        typed = [o.value() for o in parsed if o.key_or_group == repeats]
        seed = record.seed if record is not None else next(reversed(typed), None)
        kept = [str(o.input_line) for o in parsed if o.key_or_group != repeats]
        own = None if words is None else kept
        part = record.study if record is not None else None
        study, places = read_memberships(part or SavedConfig(directory).get("study.trial"))
        return cls(
            directory, phase, record, own, seed if isinstance(seed, int) else 0, study, places
        )

    @property
    def goal(self) -> Goal | None:
        """From the record or the saved config; ``None`` if neither tells."""
        if self.record is not None:
            objective = self.record.objective
            return self.record.task, str(objective["metric"]), str(objective["mode"])
        keys = ("task.name", "objective.metric", "objective.mode")
        task, metric, mode = map(self.saved.get, keys)
        if isinstance(task, str) and isinstance(metric, str) and mode in ("max", "min"):
            return task, metric, mode
        return None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.record is not None and self.record.is_final

    @cached_property
    def saved(self) -> SavedConfig:
        """What Hydra wrote beside it."""
        return SavedConfig(self.directory)

    def has(self, word: str) -> bool:
        """Whether an override names what it ran with; that may be its config's default."""
        if _canonical(word) in _identity(self.words or []):
            return True
        ((key, value),) = settings_of([word]).items()
        return as_setting(self.saved.get(key)) == as_setting(value)


def rebuild(directory: Path, runs: Sequence[Run], problems: list[Problem]) -> Journal | None:
    """The plan that runs of one task make; ``None`` if there is no usable run.

    Runs of another task, or of another objective than most of their folder, and those whose
    overrides cannot be read become problems. Phases, their order and the roles in them are what
    the records say; of runs of older versions, which say nothing, phases are folders in the order
    in which they were given more and more overrides, then in order of time.
    """
    runs = [*_parts(runs)]
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
    typed = read_yaml(directory / MULTIRUN)
    phases: list[Phase] = []
    everything: list[Run] = []
    members: dict[str, list[list[Run]]] = {}
    for group, (_, metric, mode) in groups:
        objective = {"metric": metric, "mode": mode}
        phase, members[group[0].phase] = _phase(group, everything, objective, directory, typed)
        phases.append(phase)
        everything += group
    done = all(phase.status == "completed" for phase in phases)
    read = [run.record for run in everything if run.record is not None]
    foreign = any(FUNCTION in record.environment for record in read)  # whose keys are its own
    _, metric, mode = _most([run.goal for run in everything if run.goal is not None], groups[0][1])
    journal = Journal(
        directory=directory,
        name=_study(runs) or directory.resolve().name,
        task=task,
        command=[],
        objective={"metric": metric, "mode": mode},
        seeds=sorted({run.seed for run in everything}),
        base=_shared([run.words or [] for run in everything]),
        phases=phases,
        status="completed" if done else "interrupted",
        budget=str(look_up(typed, "study.budget" if foreign else "budget", None) or "full"),
        adopt=str(look_up(typed, "study.adopt", "best")),
        refit=look_up(typed, "study.refit") is True,
        origin=None if foreign else _origin(typed),
    )
    whole = Phase("", "grid", journal.objective, [])
    saved_goals(typed, journal.objective).give(whole, None, [])
    add_last(journal, members, whole)
    return journal


def _origin(typed: Mapping[str, Any]) -> Origin | None:
    """Where the last call began; what it took from there is among the words of all runs."""
    place = look_up(typed, "init_study")
    if not isinstance(place, str):
        return None
    place = place.replace("${budget}", str(look_up(typed, "budget", "full")))
    return Origin(place, "", "", "", "", [], [])


def _study(runs: Sequence[Run]) -> str:
    """The name that most records say; empty if they say none."""
    return _most([run.study for run in runs if run.places], "")


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


def _parts(runs: Sequence[Run]) -> Iterator[Run]:
    """Each run once for every place that it has in the study."""
    study = _study(runs)
    for run in runs:
        places = run.places if run.study == study else []
        for one in places:
            yield replace(run, phase=one.phase, number=one.number, role=one.role)
        if not places:
            yield run


def _rank(runs: Sequence[Run]) -> tuple[bool, float, int, float, str]:
    phase = runs[0].phase
    number = min([run.number for run in runs if run.number is not None], default=math.inf)
    times = [math.inf]
    for run in runs:
        with suppress(OSError):
            times.append((run.directory / RECORD).stat().st_mtime)
    words = len(_shared([run.words or [] for run in runs]))
    return phase == TEST, number, words, min(times), phase


def _phase(
    runs: Sequence[Run],
    earlier: Sequence[Run],
    objective: dict[str, str],
    directory: Path,
    typed: Mapping[str, Any],
) -> tuple[Phase, list[list[Run]]]:
    """A phase, and the runs of each of its candidates."""
    own = [run for run in runs if run.directory.parent.name == run.phase] or runs
    shared = _shared([run.words or [] for run in own])
    base = [word for word in shared if all(run.has(word) for run in runs)]
    groups, incumbent = _grouped(runs, base, earlier)
    spec = _spec(runs[0])
    wanted = _identity(base)
    candidates, found = [], []
    for group in groups:
        group.sort(key=lambda run: run.seed)
        words = [word for word in group[0].words or [] if _canonical(word) not in wanted]
        trials = [_trial(run, directory) for run in group]
        epochs = _stopped_after(group) if spec.get("halving") else None
        candidates.append(Candidate(words, trials, epochs=epochs))
        found.append({r.seed: r.record for r in group if r.record is not None})
    seeds = sorted({run.seed for run in runs})
    declared = _declared(candidates)
    halved = [one.epochs is not None for one in candidates]
    done = all(h or all(r.is_final for r in g) for h, g in zip(halved, groups, strict=True))
    phase = Phase(
        name=runs[0].phase,
        kind=_kind(runs[0].phase, spec, candidates, declared),
        objective=objective,
        seeds=seeds,
        base=base,
        declared=declared,
        candidates=candidates,
        status="completed" if done else "running",
        incumbent=incumbent,
    )
    if phase.kind != "test":
        config = typed or runs[0].saved.config
        saved_goals(config, objective).give(phase, spec.get("metric"), spec.get("require") or [])
        adopting = _adopting(config)
        decide(phase, found, **adopting)
        add_branches(phase, groups, found, spec, adopting)
    return phase, groups


def _spec(run: Run) -> Mapping[str, Any]:
    """What the study's file says of a run's phase, if that is more than overrides."""
    found = run.saved.get(f"study.phases.{run.phase}") if run.phase else None
    return found if isinstance(found, Mapping) else {}


def _adopting(config: Mapping[str, Any]) -> dict[str, Any]:
    """How a study decides, for `select`."""
    alpha = look_up(config, "study.alpha")
    if look_up(config, "study.adopt") != "significant" or not isinstance(alpha, float):
        return {}
    return {"significant": True, "alpha": alpha}


def _grouped(
    runs: Sequence[Run], base: Sequence[str], earlier: Sequence[Run]
) -> tuple[list[list[Run]], int | None]:
    """The runs of each configuration, and the index of the incumbent; the final one comes first."""
    groups: dict[Hashable, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.role == "start"):
        of_one = run.role not in (None, "candidate")  # there is a single configuration in that role
        groups.setdefault(run.role if of_one else _identity(run.words or []), []).append(run)
    wanted: Hashable = "incumbent"
    if not any(run.role for run in runs):
        wanted = _identity(base)
        if wanted not in groups:  # what the phase started from may have run in an earlier one
            before = {run.directory: run for run in earlier if _computes(run, base)}
            if before:
                groups[wanted] = [*before.values()]
    alone = len(groups) == 1 and wanted != "incumbent"  # of all runs with the same words
    incumbent = list(groups).index(wanted) if wanted in groups and not alone else None
    return list(groups.values()), incumbent


def _computes(run: Run, base: Sequence[str]) -> bool:
    """Whether a run has these settings and names no others."""
    return _identity(run.words or []) <= _identity(base) and all(map(run.has, base))


def _stopped_after(runs: Sequence[Run]) -> int | None:
    """The epochs after which successive halving stopped a configuration."""
    records = [run.record for run in runs if run.record is not None]
    epochs = [r.cost.get("epochs") for r in records if r.status == "paused"]
    return epochs[0] if len(epochs) == len(runs) else None


def _kind(
    phase: str,
    spec: Mapping[str, Any],
    candidates: Sequence[Candidate],
    declared: dict[str, list[str]],
) -> Kind:
    if phase == TEST:
        return "test"
    if spec.get("rerun"):
        return "rerun"
    if spec.get("search"):  # the order in which it asked is lost
        return "search"
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


def _hydra_overrides(directory: Path) -> list[str] | None:
    try:
        text = (directory / HYDRA_FOLDER / "overrides.yaml").read_text(encoding="utf-8")
        words = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    read = isinstance(words, list) and all(isinstance(word, str) for word in words)
    return own_overrides(words) if read else None

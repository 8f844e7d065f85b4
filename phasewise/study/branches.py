"""A phase that runs once for each level of a key: ``per: model.architecture``.

Each branch starts from the best configuration of its level in the phase before. The candidates of
all branches are one comparison, in which each branch has a winner of its own besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from omegaconf import OmegaConf

from phasewise.config.help import did_you_mean, settings_error
from phasewise.errors import Problem
from phasewise.study.compatibility import OverrideMerger
from phasewise.study.console import level_word
from phasewise.study.decision import Runs, decide
from phasewise.study.halving import value_reached
from phasewise.study.journal import Branch, Phase
from phasewise.study.plan import Planner, Stage
from phasewise.study.schema import PhaseConfig
from phasewise.text import format_value

Decide = Callable[[Phase, Sequence[Runs]], None]
"""As `phasewise.study.decision.decide`, with the study's rule."""

_MISSING = object()


@dataclass(frozen=True)
class BranchStart:
    """What a branch starts from: all overrides of a configuration of its level."""

    level: str
    words: Sequence[str]


def level_of(choices: OverrideMerger, words: Sequence[str], key: str) -> str | None:
    """The value that a key, or a config group, has with these overrides; ``None`` of no key."""
    composer = choices.composer
    for word in reversed(choices.groups(words)):
        if word.partition("=")[0].lstrip("+~") == key:
            return word.partition("=")[2]
    if composer.loader.get_group_options(key) and "." not in key:
        chosen = composer.config.hydra.runtime.choices.get(key)
        return None if chosen is None else str(chosen)
    found = OmegaConf.select(composer.config_of(words), key, default=_MISSING)
    if found is _MISSING:
        return None
    return format_value(OmegaConf.to_container(found) if OmegaConf.is_config(found) else found)


def levels_of(stage: Stage, key: str, planner: Planner) -> dict[str, list[int]]:
    """The candidates of each level of a key, without those that cannot run."""
    phase, found = stage.phase, dict[str, list[int]]()
    if phase.per == key and phase.branches:
        return {branch.level: branch.candidates for branch in phase.branches}
    for row, jobs in enumerate(stage.jobs):
        if jobs:
            level = level_of(planner.choices, planner.winner_words(stage, row), key)
            found.setdefault(str(level), []).append(row)
    return found


def decided_starts(
    stage: Stage, key: str, planner: Planner, runs: Sequence[Runs]
) -> tuple[list[BranchStart], str, list[str]]:
    """What the branches of a phase start from.

    The branch of the phase's winner starts from that; of another level, the best mean counts, the
    earlier one on a tie. Where successive halving has stopped all of a level, those that came
    farthest compete by what they had reached.

    Args:
        stage: the phase before, decided.
        key: whose levels they are.
        planner: puts words together.
        runs: of each candidate of ``stage``, by seed.

    Returns:
        These, the level of the winner of ``stage``, and the levels of which nothing has a result.
    """
    phase, starts, without = stage.phase, list[BranchStart](), list[str]()
    first = ""
    own = {branch.level: branch.winner for branch in phase.branches} if phase.per == key else {}
    for level, rows in levels_of(stage, key, planner).items():
        row = own.get(level)
        if row is None:
            row = phase.winner if phase.winner in rows else _best(stage, rows, runs)
        if row is None:
            without.append(level)
        else:
            starts.append(BranchStart(level, planner.winner_words(stage, row)))
        if phase.winner in rows:
            first = level
    return starts, first, without


def _best(stage: Stage, rows: Sequence[int], runs: Sequence[Runs]) -> int | None:
    phase = stage.phase
    part = part_of(phase, rows, None)
    decide(part, [runs[row] for row in rows])
    if part.winner is not None:
        return rows[part.winner]
    sign = 1.0 if phase.objective["mode"] == "max" else -1.0
    reached: list[tuple[int, float, int]] = []
    for row in rows:
        value, rung = value_reached(stage, row) or (math.nan, 0)
        reached += [(rung, sign * value, -row)] if math.isfinite(value) else []
    return -max(reached)[2] if reached else None


def branched_stage(
    name: str, spec: PhaseConfig, starts: Sequence[BranchStart], planner: Planner, first: str
) -> Stage:
    """A phase of branches.

    Args:
        name: of the phase.
        spec: its settings; ``per`` is the key.
        starts: of its branches, at least one.
        planner: composes and checks.
        first: the level whose start is the incumbent of the phase as a whole.

    Raises:
        UserError, hydra.errors.HydraException: as `Planner.grid_of`.
    """
    assert spec.per is not None
    common = [word for word in starts[0].words if all(word in one.words for one in starts)]
    stage, grid = planner.empty(name, spec, common)
    phase = stage.phase
    phase.per = spec.per
    if spec.per in _keys(spec):
        raise settings_error([Problem(f"per={spec.per}", "the phase sets that key itself")])
    lead = [spec.per, *grid.declared]
    for start in starts:
        branch = Branch(start.level, [])
        before = [word for word in start.words if word not in common]
        for cell in grid.cells:
            whole = planner.choices.join(start.words, cell)
            own = [word for word in whole if word not in common]
            if planner.add_once(stage, own, lead):
                branch.candidates.append(len(phase.candidates) - 1)
        branch.incumbent = _incumbent(stage, branch, before, planner, lead)
        phase.branches.append(branch)
        for row in branch.candidates:
            name_level(stage, row)
        if start.level == first:
            phase.incumbent = branch.incumbent
    planner.check_compared_samples(stage)
    planner.plan_search(stage)
    planner.plan_halving(stage)
    return stage


def _keys(spec: PhaseConfig) -> set[str]:
    lines = [spec.overrides, *(spec.combinations or [])]
    return {word.partition("=")[0].lstrip("+~") for line in lines for word in line}


def _incumbent(
    stage: Stage, branch: Branch, words: list[str], planner: Planner, lead: Sequence[str]
) -> int:
    """The index of what a branch starts from, which is added where no cell computes the same."""
    own = planner.fingerprint_of(stage.phase, words)
    for row in branch.candidates:
        if own is not None and stage.jobs[row] and stage.jobs[row][0].fingerprint == own:
            return row
    planner.add(stage, words, lead)
    branch.candidates.append(len(stage.phase.candidates) - 1)
    return branch.candidates[-1]


def name_level(stage: Stage, row: int) -> None:
    """Trials of a candidate say which branch they are of, also where that is the default of its
    key."""
    if level := level_word(stage.phase, stage.phase.candidates[row]):
        stage.jobs[row] = [replace(job, name=f"{level} {job.name}") for job in stage.jobs[row]]


def note_branches(stage: Stage, key: str, planner: Planner) -> None:
    """Give a phase that was planned without them the branches that its candidates make."""
    levels = levels_of(stage, key, planner)
    stage.phase.per = key
    row = stage.phase.incumbent
    stage.phase.branches = [
        Branch(level, rows, row if row in rows else None) for level, rows in levels.items()
    ]


def decide_branches(phase: Phase, runs: Sequence[Runs], rule: Decide) -> None:
    """Choose the winner of each branch, as if it were a phase of its own."""
    for branch in phase.branches:
        part = part_of(phase, branch.candidates, branch.incumbent)
        rule(part, [runs[row] for row in branch.candidates])
        branch.winner = None if part.winner is None else branch.candidates[part.winner]
        branch.verdict, branch.reason = part.verdict, part.reason


def part_of(phase: Phase, rows: Sequence[int], incumbent: int | None) -> Phase:
    """Some candidates of a phase as a phase, whose decision changes nothing in the whole one."""
    return replace(
        phase,
        candidates=[replace(phase.candidates[row]) for row in rows],
        incumbent=rows.index(incumbent) if incumbent in rows else None,
    )


def planned_starts(
    key: str, sources: Sequence[Stage], planner: Planner
) -> tuple[list[BranchStart], str]:
    """The branches of a phase before anything has run: a first configuration of each level.

    Args:
        key: whose levels they are.
        sources: planned phases among whose candidates the best will be.
        planner: puts words together.

    Returns:
        These, and the level of what the phase starts from as a whole.

    Raises:
        UserError: none of ``sources`` varies the key.
    """
    found: dict[str, BranchStart] = {}
    for stage in sources:
        for level, rows in levels_of(stage, key, planner).items():
            found.setdefault(level, BranchStart(level, planner.winner_words(stage, rows[0])))
    varied = {name: None for stage in sources for name in (stage.phase.per, *stage.phase.declared)}
    if len(found) < 2 and key not in varied:
        raise settings_error(
            [Problem(f"per={key}", _no_levels(key, sources, [*filter(None, varied)]))]
        )
    starts = list(found.values())
    for stage in sources:
        row = stage.phase.incumbent
        for level, rows in levels_of(stage, key, planner).items():
            if row in rows:
                return starts, level
    return starts, starts[0].level if starts else ""


def _no_levels(key: str, sources: Sequence[Stage], varied: Sequence[str]) -> str:
    near = did_you_mean(key, varied)
    if not sources:
        return "it starts from the start of the study, which has one value of it"
    where = " and ".join(stage.phase.name for stage in sources)
    there = f"it varies {', '.join(varied)}" if varied else "it varies nothing"
    return f"phase {where}, which it starts from, has one value of it; {there}{near}"

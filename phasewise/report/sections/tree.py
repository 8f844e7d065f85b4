"""What each phase started from, where phases are no chain, and which one the study ended with."""

from __future__ import annotations

import math
from functools import partial

from phasewise.report.content import Block, Column, Figure, Table, Text
from phasewise.report.figures.tree import Box, draw_tree
from phasewise.report.text import listed, number
from phasewise.report.view import CandidateView, PhaseView, StudyView, short_key
from phasewise.study.tree import Tree, tree_of_plan

MOST_LEVELS = 6
"""Branches of a phase that its box lists."""


def tree_blocks(study: StudyView) -> list[Block]:
    """The phases as a tree, and which of the last ones was chosen; nothing of a plain chain."""
    tree = tree_of_plan(study.plan.phases)
    if not _branches(study, tree):
        return []
    blocks: list[Block] = [_figure(study, tree)]
    leaves = tree.leaves
    if study.plan.last:
        text = f"The final configuration is the winner of {study.plan.last}, the best of "
        text += f"{listed(leaves)}: {study.plan.last_reason}."
        blocks.append(Text(text))
    elif len(leaves) > 1:
        text = f"The final configuration will be the best winner of {listed(leaves)}."
        blocks.append(Text(text, "note"))
    return blocks


def started_from(study: StudyView, phase: PhaseView) -> list[Block]:
    """What a phase began with, in words, where that is not the phase before it."""
    tree = tree_of_plan(study.plan.phases)
    name = phase.plan.name
    if not _branches(study, tree) or name not in tree.parents:
        return []
    known = {one.plan.name: one for one in study.phases}
    parents = [known[one] for one in tree.parents[name]]
    if not parents:
        return [Text("It started from the study's starting configuration.")]
    if phase.plan.branches and phase.plan.kind != "rerun":
        key, source = phase.plan.per, parents[0].plan.name
        levels = listed([branch.level for branch in phase.plan.branches])
        text = f"It ran once for each {key} ({levels}), from the best configuration of each in "
        return [Text(f"{text}phase {source}."), branch_table(phase)]
    names = listed([f"{one.plan.name}{_winner_of(one)}" for one in parents])
    if len(parents) > 1:
        return [Text(f"It took the best configurations of all phases before it, after {names}.")]
    return [Text(f"It started from the winner of phase {names}.")]


def branch_table(phase: PhaseView) -> Table:
    """A row per branch: what it started from, and what came of it."""
    columns = [
        Column(phase.plan.per),
        Column("started from"),
        Column("at", "number"),
        Column("best"),
        Column(phase.metric, "number"),
        Column("gain", "signed"),
    ]
    caption = (
        f"The branches of {phase.title}: the best of each {phase.plan.per} against what its branch "
        f"started from, {phase.metric} as the mean over seeds. The best of all is the winner of "
        "the phase, and marked."
    )
    table = Table(f"branches_{phase.slug}", caption, columns)
    for branch in phase.plan.branches:
        before = None if branch.incumbent is None else phase.candidates[branch.incumbent]
        best = None if branch.winner is None else phase.candidates[branch.winner]
        first, last = (one.mean if one is not None else math.nan for one in (before, best))
        names = ["" if one is None else _own_label(phase, one) for one in (before, best)]
        won = best is not None and best is phase.winner
        row = (branch.level, names[0], first, names[1], last, phase.sign * (last - first))
        table.add(*row, mark="best" if won else "")
    return table


def _own_label(phase: PhaseView, one: CandidateView) -> str:
    """Without the key of the branches, which stands beside it."""
    own = {key: value for key, value in one.settings.items() if key != phase.plan.per}
    return " ".join(f"{short_key(key)}={value}" for key, value in own.items())


def _branches(study: StudyView, tree: Tree) -> bool:
    """Whether there is more to tell than a chain."""
    return not tree.is_chain or any(phase.plan.branches for phase in study.phases)


def _winner_of(phase: PhaseView) -> str:
    return f" ({phase.winner.label})" if phase.winner is not None else ""


def _figure(study: StudyView, tree: Tree) -> Figure:
    known = {phase.plan.name: phase for phase in study.phases}
    last = study.plan.last or (tree.leaves[0] if len(tree.leaves) == 1 else "")
    decided = last in known and known[last].winner is not None
    chosen = {*tree.upstream(last), last} if decided else set()
    depths = tree.depths()
    order = list(depths)
    boxes = [Box("start", "", [], None, 0, bool(chosen))]
    for name, depth in depths.items():
        phase, parents = known[name], tree.parents[name]
        lines = [phase.winner.label if phase.winner is not None else "not decided yet"]
        lines += _levels(phase)
        lines += [f"after {listed(parents)}"] if len(parents) > 1 else []
        score = phase.winner.mean if phase.winner is not None and phase.winner.values else None
        parent = order.index(parents[-1]) + 1 if parents else 0
        title, value = f"{phase.number} {name}", "" if score is None else number(score)
        boxes.append(Box(title, value, lines, parent, depth + 1, name in chosen))
    caption = (
        f"The phases: each started from the winner of the one that it is joined to. With each, its "
        f"winner and that one's {study.plan.objective['metric']}"
    )
    others = dict.fromkeys(
        f"{one.metric} in {one.plan.name}" for one in study.phases if one.metric != _metric(study)
    )
    caption += f" ({listed([*others])})" if others else ""
    caption += "; blue: the way to the final configuration." if chosen else "."
    return Figure("phases", caption, partial(draw_tree, boxes))


def _metric(study: StudyView) -> str:
    return study.plan.objective["metric"]


def _levels(phase: PhaseView) -> list[str]:
    found = []
    for branch in phase.plan.branches[:MOST_LEVELS]:
        best = None if branch.winner is None else phase.candidates[branch.winner]
        score = number(best.mean) if best is not None and best.values else "no result"
        found.append(f"{branch.level}: {score}")
    more = len(phase.plan.branches) - MOST_LEVELS
    return [*found, *([f"and {more} more"] if more > 0 else [])]

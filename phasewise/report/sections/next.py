"""What a study asked itself, round by round, and what its records leave open."""

from __future__ import annotations

from collections.abc import Sequence

from phasewise.analysis.audit import Finding
from phasewise.analysis.proposals import NothingDecided, propose
from phasewise.cli.shell import relative_path, script, shell_command
from phasewise.report.content import Block, Bullets, Column, Command, Section, Table, Text
from phasewise.report.sections.audit import capital
from phasewise.report.view import StudyView


def rounds_section(study: StudyView) -> Section | None:
    """A row per phase of ``study.follow_up``; ``None`` where there is none."""
    own = [phase for phase in study.phases if phase.plan.round]
    if not own and not study.plan.rounds_ended:
        return None
    columns = [
        Column("round", "count"),
        Column("phase"),
        Column("why"),
        Column("winner"),
        Column("mean", "number"),
    ]
    caption = (
        "The phases that the study proposed to itself (study.follow_up), with what its records "
        "said for each, and what came of them: the mean of the objective over seeds."
    )
    table = Table("rounds", caption, columns)
    for phase in own:
        winner = phase.winner
        label = "not decided yet" if winner is None else winner.label
        mean = None if winner is None else winner.mean
        table.add(phase.plan.round, phase.plan.name, phase.plan.why, label, mean)
    blocks: list[Block] = [table] if own else []
    if study.plan.rounds_ended:
        blocks.append(Text(f"Why there was no other round: {study.plan.rounds_ended}."))
    return Section("Rounds", blocks)


def next_section(study: StudyView, found: Sequence[Finding]) -> Section | None:
    """What could be asked next; ``None`` while it runs, and where nothing is decided or open."""
    if study.plan.status == "running":
        return None
    try:
        proposals = propose(study.result, found=found)
    except NothingDecided:
        return None
    if not proposals.phases and not proposals.told:
        return None
    table = Table(
        "next",
        "Phases that the records call for: the first from the final configuration on, the "
        "others from the winner of the one before.",
        [Column("phase"), Column("tries"), Column("seeds"), Column("why")],
    )
    usual = ", ".join(map(str, study.plan.seeds))
    for one in proposals.phases:
        table.add(one.name, one.typed(), ", ".join(map(str, one.seeds or ())) or usual, one.reason)
    blocks: list[Block] = [table] if proposals.phases else []
    if proposals.phases:
        text = (
            "This writes them into a study's file, without values that the task does not allow, "
            "and says how to run it:"
        )
        words = [relative_path(study.result.directory), "--propose"]
        blocks += [Text(text, "note"), Command(shell_command(script("report.py"), words))]
    if proposals.told:
        blocks.append(Bullets([f"{capital(one)}." for one in proposals.told]))
    return Section("What to ask next", blocks)

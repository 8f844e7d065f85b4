"""The study's own claims: what became of them, and what would tell where nothing did."""

from __future__ import annotations

from collections.abc import Sequence

from phasewise.analysis.statistics.hypotheses import Answer, answer_hypotheses
from phasewise.analysis.statistics.power import ALPHA, POWER
from phasewise.report.content import Column, Mark, Section, Table, Text
from phasewise.report.view import StudyView

MARKS: dict[str, Mark] = {"yes": "best", "no": "bad"}


def hypotheses_section(study: StudyView) -> Section | None:
    """A row per claim; ``None`` where the study states none."""
    if not study.plan.hypotheses:
        return None
    answers = answer_hypotheses(study.result)
    lacking = any(answer.needs for answer in answers)
    columns = [
        Column("hypothesis"),
        Column("answer"),
        Column("evidence"),
        *([Column("what would tell")] if lacking else []),
    ]
    table = Table("hypotheses", "What the study's file claimed, and what came of it.", columns)
    for answer in answers:
        cells = [answer.claim, answer.verdict, answer.evidence]
        cells += [answer.needs] if lacking else []
        table.add(*cells, mark=MARKS.get(answer.verdict, ""))
    section = Section("Hypotheses", [table])
    if lacking:
        text = (
            f"What would tell: the seeds with which a test at p ≤ {ALPHA} finds a difference of "
            f"the size that the runs show so far in {100 * POWER:.0f} % of studies (noncentral "
            "t-distribution, statsmodels). Of few seeds it is a rough guide, of one there is none."
        )
        section.blocks.append(Text(text, "note"))
    section.blocks += [one for one in [_means(answers)] if one.rows]
    return section


def _means(answers: Sequence[Answer]) -> Table:
    """What the answers rest on."""
    columns = [
        Column("hypothesis"),
        Column("value"),
        Column("mean", "number"),
        Column("std", "number"),
        Column("n", "count"),
    ]
    caption = (
        "The measure of each hypothesis by value, over n trials; of effects over n pairs of them, "
        "of spreads over n cells."
    )
    table = Table("hypotheses_means", caption, columns)
    for answer in answers:
        if answer.table is not None:
            for value, row in answer.table[answer.table["count"] > 0].iterrows():
                numbers = float(row["mean"]), float(row["std"]), int(row["count"])
                table.add(answer.claim, value, *numbers)
    return table

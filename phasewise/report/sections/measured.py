"""What the task shows of the final configuration: diagrams to read others by, measured shares."""

from __future__ import annotations

from functools import partial

from phasewise.records.notes import Diagram, Notes, Shares
from phasewise.records.record import RunRecord
from phasewise.report.content import Block, Column, Figure, Table
from phasewise.report.figures.diagrams import overlaid
from phasewise.report.figures.shares import stacked
from phasewise.report.figures.style import PALETTE
from phasewise.report.view import StudyView


def measured_blocks(study: StudyView) -> list[Block]:
    """Of its best run; none where the task shows nothing."""
    record = final_record(study)
    notes = record.notes if record is not None else Notes()
    blocks: list[Block] = []
    for shares in notes.shares:
        blocks += [_figure(shares), _table(shares)]
    named: dict[str, list[Diagram]] = {}
    for diagram in notes.references:
        named.setdefault(diagram.name, []).append(diagram)
    for name, diagrams in named.items():
        several = diagrams[: len(PALETTE)]
        blocks.append(Figure(name, several[0].caption, partial(overlaid, several, PALETTE)))
    return blocks


def final_record(study: StudyView) -> RunRecord | None:
    """Of the best run of the final configuration, or of what leads so far."""
    trial = study.final.best_trial if study.final is not None else None
    return trial.record if trial is not None else None


def _figure(shares: Shares) -> Figure:
    return Figure(shares.name, f"Final configuration. {shares.caption}", partial(stacked, shares))


def _table(shares: Shares) -> Table:
    parts = list(next(iter(shares.bars.values())))
    columns = [Column(""), *(Column(part, "number") for part in parts)]
    table = Table(shares.name, f"The same in numbers: {shares.title}.", columns)
    for name, bar in shares.bars.items():
        table.add(name, *(bar[part] for part in parts))
    return table

"""Over all phases: what mattered, how the configurations behave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pandas import DataFrame

from phasewise.analysis.statistics.effects import phase_effects
from phasewise.analysis.statistics.importance import importance
from phasewise.records.notes import Diagram
from phasewise.report.content import Block, Column, Figure, Section, Table, Text
from phasewise.report.figures.diagrams import overlaid
from phasewise.report.figures.scatter import ranking
from phasewise.report.figures.style import PALETTE, Colours
from phasewise.report.sections.measured import measured_blocks
from phasewise.report.sections.trade_off import trade_off_blocks
from phasewise.report.text import listed
from phasewise.report.view import CandidateView, PhaseView, StudyView

MOST_DIAGRAMS = len(PALETTE)


def importance_section(study: StudyView, colours: Colours) -> Section | None:
    """A ranking of the keys, and what the objective costs; ``None`` where nothing was varied."""
    effects = phase_effects(study.result)
    if effects.empty:
        return None
    section = Section("What mattered")
    section.blocks += [*_ranking(study, effects), *trade_off_blocks(study, colours)]
    return section


def _ranking(study: StudyView, effects: DataFrame) -> Iterator[Block]:
    columns = [
        Column("rank", "count"),
        Column("key"),
        Column("phase"),
        Column("values", "count"),
        Column("best on average"),
        Column("in the phase's best"),
        Column("range of means", "number"),
        Column("gain over the incumbent's", "signed"),
    ]
    caption = (
        "Keys by the range of their mean scores (best less worst value) within their phase. "
        "Best on average is the value with the best mean over all settings of the other keys; "
        "where the phase's best has another one, it is better at the best settings of these. "
        "The gain is the key's own: of that value over the incumbent's, over trials that differ in "
        "nothing else."
    )
    table = Table("impact", caption, columns)
    for rank, row in enumerate(effects.to_dict("records"), 1):
        numbers = float(row["range"]), float(row["gain"])
        phase = row["phase"] or "sweep"
        values = int(row["values"]), row["best"], row["in_best"]
        key = f"{row['key']} (with {row['tied']})" if row["tied"] else row["key"]
        table.add(rank, key, phase, *values, *numbers)
    yield table
    found = importance(study.result)
    if found.table is None:
        yield Text(f"Importance by {found.method}: none, {found.note}.", "note")
        return
    shares = found.table["importance"]
    note = f" {found.note[0].upper()}{found.note[1:]}." if found.note else ""
    caption = f"Share of the variance that each key explains alone: {found.method}.{note}"
    names, values = list(map(str, shares.index)), shares.tolist()
    title = "share of explained variance (fraction)"
    yield Figure("importance", caption, partial(ranking, names, values, title))


def behaviour_section(study: StudyView, colours: Colours) -> Section | None:
    """What the task shows of the final configuration, and of those that a phase compared, where
    they differ."""
    section = Section("Behaviour", measured_blocks(study))
    found: dict[tuple[str, frozenset[str]], list[_Overlay]] = {}
    for phase in study.phases:
        for overlay in _diagrams(phase, colours):
            labels = frozenset(one.label for one in overlay.diagrams)
            found.setdefault((overlay.name, labels), []).append(overlay)
    section.blocks += [_figure(same) for same in found.values()]
    return section if section.blocks else None


@dataclass(frozen=True)
class _Overlay:
    """Diagrams of one name that a phase compared, with their colours."""

    phase: PhaseView
    name: str
    diagrams: Sequence[Diagram]
    inks: Sequence[str]


def _figure(same: Sequence[_Overlay]) -> Figure:
    """Of phases that compared the same curves, one figure."""
    first, *others = same
    title = first.phase.title
    if others:
        title += f" (and the same in {listed([one.phase.title for one in others])})"
    caption = f"{title}. {first.diagrams[0].caption}"
    draw = partial(overlaid, first.diagrams, first.inks)
    return Figure(f"{first.name}_{first.phase.slug}", caption, draw)


def _diagrams(phase: PhaseView, colours: Colours) -> Iterator[_Overlay]:
    """Those of one name over each other, at most `MOST_DIAGRAMS` that differ."""
    found: dict[str, list[tuple[CandidateView, Diagram]]] = {}
    for one in phase.candidates:
        for diagram in one.records[0].notes.diagrams if one.records else ():
            found.setdefault(diagram.name, []).append((one, diagram))
    for name, pairs in found.items():
        different: dict[str, tuple[CandidateView, Diagram]] = {}
        for pair in pairs:
            different.setdefault(pair[1].label, pair)
        if len(different) < 2:
            continue
        ones, diagrams = zip(*[*different.values()][:MOST_DIAGRAMS], strict=True)
        key = _told_apart_by(phase, pairs)
        inks = PALETTE if key is None else [colours.of(key, one.settings[key]) for one in ones]
        yield _Overlay(phase, name, diagrams, inks)


def _told_apart_by(phase: PhaseView, pairs: Sequence[tuple[CandidateView, Diagram]]) -> str | None:
    """The key that has another value for each diagram: its colours mean the same here."""
    for key in phase.keys:
        both = {(one.settings[key], diagram.label) for one, diagram in pairs}
        if len(both) == len({value for value, _ in both}) == len({label for _, label in both}):
            return key
    return None

"""What halving saved in a phase, and how well its rungs foretold the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from phasewise.analysis.statistics.halving import RungSummary, hours_saved, rung_summaries
from phasewise.report.content import Block, Bullets, Column, Section, Table, Text
from phasewise.report.text import number
from phasewise.report.view import PhaseView
from phasewise.text import duration

MOST = 10
"""So many of those that were dropped within noise are named."""


def halving_section(phase: PhaseView) -> Section | None:
    """``None`` where a phase does not halve, or has not yet decided."""
    settings = phase.plan.halving
    found = rung_summaries(phase.result)
    if settings is None or not settings.full:
        return None
    hours = hours_saved(phase.result)
    about = f", about {duration(3600 * hours)} of the device" if hours > 0 else ""
    texts = [settings.text(), f"{settings.saved_text()}{about}"]
    blocks: list[Block] = [Text(" ".join(f"{it[0].upper()}{it[1:]}." for it in texts))]
    if found:
        blocks += [_table(phase, found), *_close(phase, found)]
    return Section("Halving", blocks, anchor=f"halving_{phase.slug}")


def _table(phase: PhaseView, found: Sequence[RungSummary]) -> Table:
    settings = phase.plan.halving
    assert settings is not None
    caption = (
        f"{phase.title}: the rungs of halving. Ranks: Spearman's correlation of {phase.metric} at "
        "the rung with that at the end, with its 95 % interval (Bonett and Wright 2000), among the "
        "configurations that ran to the end: the better ones, which are closer to each other than "
        "all are, so that among all it would rather be higher. Within noise: dropped, though the "
        "difference to the last one that went on by its rank is no more than the 95 % interval of "
        "a difference between two means over seeds."
    )
    columns = [
        *([Column(phase.plan.per)] if phase.plan.branches else []),
        Column("bracket", "count"),
        Column("after"),
        Column("came", "count"),
        Column("went on", "count"),
        Column("ranks", "number"),
        Column("95 %", "interval"),
        Column("of", "count"),
        Column("noise", "number"),
        Column("dropped within noise", "count"),
    ]
    table = Table(f"halving_{phase.slug}", caption, columns)
    for one in found:
        rank = one.rank
        table.add(
            *([one.level] if phase.plan.branches else []),
            one.bracket + 1,
            settings.at(one.rung),
            one.seen,
            one.on,
            None if rank is None else rank.value,
            None if rank is None else rank.interval,
            None if rank is None else rank.pairs,
            one.noise,
            None if math.isnan(one.noise) else len(one.close),
            mark="bad" if one.close else "",
        )
    return table


def _close(phase: PhaseView, found: Sequence[RungSummary]) -> list[Block]:
    """Who was dropped within noise; that nobody knows, with one seed."""
    settings = phase.plan.halving
    assert settings is not None
    if all(math.isnan(one.noise) for one in found):
        text = (
            "With one seed nothing tells how much of a difference at a rung is noise, and so "
            "whether something as good was dropped; study.seeds repeats the runs."
        )
        return [Text(text, "note")]
    lines = [
        f"{phase.candidates[close.dropped].label}: at {settings.at(one.rung)} {number(close.gap)} "
        f"behind {phase.candidates[close.kept].label}, which went on (noise {number(close.noise)})"
        for one in found
        for close in one.close
    ]
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    lead = Text("Dropped within noise, the closest first:") if lines else None
    return [lead, Bullets([*lines[:MOST], *more])] if lead else []

"""Which differences are more than noise: analysis of variance, tests over seeds."""

from __future__ import annotations

import math

import pandas as pd

from phasewise.analysis.statistics.effects import BLOCK, anova
from phasewise.analysis.statistics.intervals import Analysis, compare_with
from phasewise.report.content import Block, Column, Section, Table, Text
from phasewise.report.view import PhaseView

ALPHA = 0.05


def significance_section(phase: PhaseView, frame: pd.DataFrame) -> Section | None:
    """``None`` where no test applies: one key and one seed."""
    blocks: list[Block] = []
    if len(phase.keys) > 1:
        blocks += anova_blocks(phase, frame)
    if len(phase.plan.seeds) > 1 and phase.winner is not None:
        blocks += seed_blocks(phase, phase.winner.index)
    return Section("Tests", blocks, anchor=f"tests_{phase.slug}") if blocks else None


def anova_blocks(phase: PhaseView, frame: pd.DataFrame) -> list[Block]:
    """A row per term with its effect sizes."""
    found = anova(frame, phase.keys)
    if found.table is None:
        return [_not_made("Analysis of variance", found)]
    columns = [
        Column("term"),
        Column("sum of squares", "number"),
        Column("df", "number"),
        Column("F", "number"),
        Column("p", "number"),
        Column("partial eta²", "number"),
        Column("omega²", "number"),
    ]
    note = f" ({found.note})" if found.note else ""
    caption = f"{phase.title}: {found.method}, of {phase.metric}{note}; green: p < {ALPHA}."
    table = Table(f"anova_{phase.slug}", caption, columns)
    names = ("sum_sq", "df", "F", "p", "eta_sq_partial", "omega_sq")
    for term, row in found.table.iterrows():
        values = [float(row[name]) for name in names]
        values[1] = int(values[1])
        table.add(str(term), *values, mark="best" if row["p"] < ALPHA and term != BLOCK else "")
    return [table]


def seed_blocks(phase: PhaseView, winner: int) -> list[Block]:
    """The winner against every other configuration."""
    found = compare_with(phase.result, winner)
    if found.table is None:
        return [_not_made("Tests over seeds", found)]
    wilcoxon = found.table["p_wilcoxon"].notna().any()
    columns = [
        Column("configuration"),
        Column("pairs", "number"),
        Column("winner less it", "signed"),
        Column("p", "number"),
        Column("p, Holm", "number"),
        *([Column("p, Wilcoxon, Holm", "number")] if wilcoxon else []),
        Column("beyond noise"),
    ]
    caption = f"{phase.title}: the winner against each other configuration; {found.method}."
    table = Table(f"seeds_{phase.slug}", caption, columns)
    for row in found.table.to_dict("records"):
        label = phase.candidates[row["candidate"]].label
        p = float(row["p_holm"])
        more = [float(row["p_wilcoxon_holm"])] if wilcoxon else []
        answer = "-" if math.isnan(p) else "yes" if p < ALPHA else "no"
        numbers = (int(row["pairs"]), float(row["difference"]), float(row["p"]), p, *more)
        table.add(label, *numbers, answer)
    return [table]


def _not_made(what: str, found: Analysis) -> Text:
    return Text(f"{what}: not made, {found.note}.", "note")

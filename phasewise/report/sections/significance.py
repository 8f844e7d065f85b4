"""Which differences are more than noise: analysis of variance, tests over seeds."""

from __future__ import annotations

import math

import pandas as pd

from phasewise.analysis.statistics.effects import BLOCK, anova
from phasewise.analysis.statistics.intervals import Analysis, compare_with
from phasewise.analysis.statistics.pairwise import pairwise
from phasewise.analysis.statistics.power import ALPHA
from phasewise.report.comparable import steadiness
from phasewise.report.content import Block, Column, Mark, Section, Table, Text
from phasewise.report.sections.audit import capital
from phasewise.report.text import listed
from phasewise.report.view import PhaseView
from phasewise.study.objectives import WEIGHTED, way_of


def significance_section(phase: PhaseView, frame: pd.DataFrame) -> Section | None:
    """``None`` where no test applies: one key and one seed."""
    blocks: list[Block] = []
    if len(phase.own_keys) > 1:
        blocks += anova_blocks(phase, frame)
    blocks += pairwise_blocks(phase, frame)
    if min(len(phase.plan.seeds), len(phase.candidates)) > 1 and phase.winner is not None:
        blocks += seed_blocks(phase, phase.winner.index)
    return Section("Tests", blocks, anchor=f"tests_{phase.slug}") if blocks else None


def anova_blocks(phase: PhaseView, frame: pd.DataFrame) -> list[Block]:
    """Of the objective, of steadiness and of epochs to best: a row per term with its sizes."""
    steady = steadiness(phase)
    blocks = [
        _anova(phase, frame, "value", phase.metric),
        _anova(phase, frame, steady.column, steady.title, "steadiness"),
        _anova(phase, frame, "epochs_to_best", "epochs to best", "epochs_to_best"),
    ]
    return [block for block in blocks if block is not None]


def _anova(
    phase: PhaseView, frame: pd.DataFrame, measure: str, title: str, name: str = ""
) -> Block | None:
    """``None`` where a measure besides the objective cannot be analysed."""
    found = anova(frame, phase.own_keys, measure)
    if found.table is None:
        return None if name else _not_made("Analysis of variance", found)
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
    caption = f"{phase.title}: {found.method}, of {title}{note}; green: p < {ALPHA}."
    parts = ["anova", *([name] if name else []), phase.slug]
    table = Table("_".join(parts), caption, columns)
    names = ("sum_sq", "df", "F", "p", "eta_sq_partial", "omega_sq")
    for term, row in found.table.iterrows():
        values = [float(row[name]) for name in names]
        values[1] = int(values[1])
        table.add(str(term), *values, mark="best" if row["p"] < ALPHA and term != BLOCK else "")
    return table


def pairwise_blocks(phase: PhaseView, frame: pd.DataFrame) -> list[Block]:
    """Every two values of each key, of the objective; one table for all keys."""
    columns = [
        Column("key"),
        Column("a"),
        Column("b"),
        Column("pairs", "count"),
        Column("a less b", "signed"),
        Column("p", "number"),
        Column("p, Holm", "number"),
        Column("Hedges' g", "signed"),
        Column("Cliff's delta", "signed"),
    ]
    is_sample = phase.plan.sampled_from is not None
    table = Table(f"pairwise_{phase.slug}", "", columns)
    notes: dict[str, list[str]] = {}
    left = []
    for key in phase.own_keys:
        others = [k for k in phase.own_keys if k != key]
        found = pairwise(frame, key, others, is_sample=is_sample)
        if found.table is None:
            left.append(f"{key} ({found.note})")
            continue
        if found.note:
            notes.setdefault(found.note, []).append(key)
        for row in found.table.to_dict("records"):
            numbers = [float(row[name]) for name in ("difference", "p", "p_holm", "g", "delta")]
            mark: Mark = "best" if row["p_holm"] < ALPHA else ""
            pairs = int(row["n"]) if row["paired"] else None
            table.add(key, row["a"], row["b"], pairs, *numbers, mark=mark)
    if not table.rows:
        return []
    table.caption = (
        f"{phase.title}: the values of each key two at a time, {phase.metric}; paired t-tests over "
        "trials that differ in nothing else (seeds are blocks), Holm-corrected within a key; g: "
        "mean difference in standard deviations of the differences, delta: share of pairs with a "
        f"larger less that with b larger; green: p, Holm < {ALPHA}."
    )
    of = [f"{note} ({listed(keys)})" for note, keys in notes.items()]
    said = [*of, *([f"not compared: {', '.join(left)}"] if left else [])]
    told = "; ".join(said)
    return [table, *([Text(f"{capital(told)}.", "note")] if told else [])]


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
    what = f", by {way_of(phase.plan)}" if WEIGHTED in phase.plan.choose else ""
    caption = f"{phase.title}: the winner against each other configuration{what}; {found.method}."
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

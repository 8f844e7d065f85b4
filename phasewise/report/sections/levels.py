"""Within a phase of several keys: what is best at each level of one of them, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from phasewise.analysis.statistics.frame import in_order, is_number
from phasewise.report.comparable import Steadiness, steadiness
from phasewise.report.content import Block, Bullets, Column, Figure, Mark, Section, Table
from phasewise.report.figures.interaction import Line, Panel, interactions
from phasewise.report.figures.limits import DECADES, possible_range
from phasewise.report.figures.style import Colours
from phasewise.report.text import listed, number, plain
from phasewise.report.view import CandidateView, PhaseView, short_key
from phasewise.study.results import Setting

MOST_LEVELS = 8
"""Lines that can be told apart."""

MOST_KEYS = 3
"""Panels that stand side by side."""

MOST_VALUES = 12
"""Of a key that a line is drawn over."""

Levels = Mapping[Setting, Sequence[CandidateView]]


def levels_section(phase: PhaseView, frame: pd.DataFrame, colours: Colours) -> Section | None:
    """``None`` unless the values of one key can be compared at those of another."""
    scored = frame.dropna(subset=["value"])
    key = level_key(phase, scored)
    if key is None:
        return None
    levels = phase.by_value(key)
    others = sorted(
        (one for one in phase.own_keys if one != key and scored[one].nunique() > 1),
        key=lambda one: -_span(scored, one),
    )
    blocks: list[Block] = [best_table(phase, key, others, levels)]
    blocks += _figures(phase, scored, key, others, colours)
    blocks.append(Bullets(guidelines(phase, scored, key, others, levels)))
    return Section(f"Best by {key}", blocks, anchor=f"levels_{phase.slug}")


def level_key(phase: PhaseView, scored: pd.DataFrame) -> str | None:
    """The key that the others are looked at by: with names rather than numbers as its values, and
    of these the one whose means differ most."""
    counts = {key: scored[key].nunique() for key in phase.own_keys}
    if sum(count > 1 for count in counts.values()) < 2 or phase.result.centre is not None:
        return None
    fitting = [key for key, count in counts.items() if 1 < count <= MOST_LEVELS]
    # drawn configurations may share no value of the other keys, so that nothing can be compared
    fitting = [key for key in fitting if len(scored) > counts[key]]
    named = {key: not all(map(is_number, scored[key])) for key in fitting}
    return max(fitting, key=lambda key: (named[key], _span(scored, key)), default=None)


def best_table(phase: PhaseView, key: str, others: Sequence[str], levels: Levels) -> Table:
    """The best configuration of each level, best level first."""
    several = len(phase.plan.seeds) > 1
    columns = [
        Column(key),
        *(Column(other) for other in others),
        Column(phase.metric, "spread" if several else "number"),
        Column("seeds", "count"),
        Column("configurations", "count"),
        Column("their mean", "number"),
        Column("their std", "number"),
    ]
    caption = (
        f"{phase.title}: the best configuration of each {key}, beside the mean of all that share "
        "it and their standard deviation, which is small where a value does well whatever the "
        "other settings."
    )
    table = Table(f"best_by_{phase.slug}", caption, columns)
    best = {value: top_of(phase, ones) for value, ones in levels.items()}
    for value in sorted(best, key=lambda value: -phase.sign * best[value].mean):
        one, means = best[value], pd.Series([each.mean for each in levels[value]])
        score = (one.mean, one.scores["std"]) if several else one.mean
        own = [one.settings[other] for other in others]
        spread = float(means.std()) if len(means) > 1 else math.nan
        numbers = len(one.values), len(means), float(means.mean()), spread
        mark: Mark = "best" if one is top_of(phase, list(best.values())) else ""
        table.add(value, *own, score, *numbers, mark=mark)
    return table


def top_of(phase: PhaseView, ones: Sequence[CandidateView]) -> CandidateView:
    """The best of scored configurations; those of more seeds before the others, as everywhere."""
    return next(one for one in phase.ranked if one in ones)


def guidelines(
    phase: PhaseView, scored: pd.DataFrame, key: str, others: Sequence[str], levels: Levels
) -> list[str]:
    """A sentence per level: what to take there, and which value of each other key is best on
    average there."""
    said = []
    steady = steadiness(phase)
    for value, ones in levels.items():
        if len(ones) < 2:
            continue
        best = top_of(phase, ones)
        chosen = listed([f"{short_key(k)}={plain(best.settings[k])}" for k in others])
        own = scored[scored[key] == value]
        parts = [_on_average(phase, own, other, steady) for other in others]
        average = listed([part for part in parts if part])
        text = (
            f"{short_key(key)}={plain(value)}: take {chosen} ({phase.metric} {number(best.mean)})"
        )
        said.append(f"{text}; on average {average}." if average else f"{text}.")
    return said


def _on_average(phase: PhaseView, own: pd.DataFrame, other: str, steady: Steadiness) -> str:
    """The best value of a key at a level by its mean, and the steadiest where another one is."""
    if own[other].nunique() < 2:
        return ""
    means = own.groupby(other, sort=False)["value"].mean()
    best = means.idxmax() if phase.mode == "max" else means.idxmin()
    text = f"{short_key(other)}={plain(best)} is best"
    spread = own.groupby(other, sort=False)[steady.column].mean().dropna()
    if len(spread) == len(means) and spread.idxmin() != best:
        text += f" ({plain(spread.idxmin())} is steadiest)"
    return text


def _figures(
    phase: PhaseView, scored: pd.DataFrame, key: str, others: Sequence[str], colours: Colours
) -> list[Block]:
    """The objective and the stability over each other key, by level."""
    drawn = [one for one in others if scored[one].nunique() <= MOST_VALUES][:MOST_KEYS]
    if not drawn:
        return []
    steady = steadiness(phase)
    titles = {"value": phase.metric, steady.column: steady.title}
    shown = [name for name in titles if scored[name].nunique() > 1]
    levels = in_order(list(scored[key]))
    rows = [
        [_panel(scored, key, levels, one, name, titles[name]) for one in drawn] for name in shown
    ]
    if not rows:
        return []
    inks = [colours.of(key, level) for level in levels]
    names = [f"{short_key(key)}={plain(level)}" for level in levels]
    caption = (
        f"{phase.title}: {' and '.join(titles[name] for name in shown)} over "
        f"{listed(drawn)}, by {key}. Points: means of the trials with both values; error bars: "
        "their standard deviation. Lines that are not parallel are an interaction."
    )
    caption += f" {steady.note}" if steady.note else ""
    draw = partial(interactions, rows, names, inks)
    return [Figure(f"interaction_{phase.slug}", caption, draw)]


def _panel(
    scored: pd.DataFrame, key: str, levels: Sequence[Setting], over: str, name: str, title: str
) -> Panel:
    values = in_order(list(scored[over]))
    cells = scored.groupby([key, over], sort=False)[name].agg(["mean", "std"])
    cells = cells.reindex(pd.MultiIndex.from_product([levels, values]))
    lines = [
        Line(*(cells.loc[[level], what].tolist() for what in ("mean", "std"))) for level in levels
    ]
    known = cells["mean"].dropna()
    decades = bool(known.min() > 0 and known.max() / known.min() >= 10**DECADES)
    possible = possible_range([*scored[name]], spread=name != "value")
    return Panel(over, [plain(value) for value in values], title, lines, decades, possible)


def _span(scored: pd.DataFrame, key: str) -> float:
    means = scored.groupby(key)["value"].mean()
    return float(means.max() - means.min())

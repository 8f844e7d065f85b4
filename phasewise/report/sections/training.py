"""Within a phase: how training went, by trial: convergence, efficiency, stability, overfitting."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from phasewise.analysis.statistics.intervals import correlation
from phasewise.report.comparable import incomparable_losses, steadiness
from phasewise.report.content import Block, Column, Figure, Section, Table, Text
from phasewise.report.figures.labels import distinct
from phasewise.report.figures.scatter import Point, Shade, ranking, scatter
from phasewise.report.figures.style import FAINT, MARKERS, PLAIN, Colours, handle, thinned
from phasewise.report.sections.last import last_table
from phasewise.report.sections.top import top_figure
from phasewise.report.text import number, plain
from phasewise.report.view import CandidateView, PhaseView, short_key

MOST_RANKED = 15
LEAST = 3
"""Trials that these figures need."""


def training_section(phase: PhaseView, frame: pd.DataFrame, colours: Colours) -> Section | None:
    """``None`` with fewer than `LEAST` trials that have a score."""
    scored = frame.dropna(subset=["value"])
    if len(scored) < LEAST:
        return None
    marks = _Marks(phase, scored, colours)
    tables = [behaviour_table(phase, frame), *last_table(phase)]
    section = Section("Training", tables, anchor=f"training_{phase.slug}")
    if scored["epochs_to_best"].nunique() > 1:
        section.blocks.append(_convergence(phase, scored, marks))
        section.blocks += _efficiency(phase, scored, colours)
    section.blocks += top_figure(phase, colours)
    section.blocks += _stability(phase, scored, marks)
    return section


class _Marks:
    """Colours and markers of points: the lead key's values, and those of another."""

    def __init__(self, phase: PhaseView, scored: pd.DataFrame, colours: Colours) -> None:
        self.lead = phase.lead
        self.legend = []
        self.colour: dict[object, str] = {}
        self.marker: dict[object, str] = {}
        if self.lead:
            self.colour = {v: colours.of(self.lead, v) for v in phase.by_value(self.lead)}
            named = {f"{self.lead}={v}": c for v, c in self.colour.items()}
            dots = [
                handle(c, name, ls="", marker="o")
                for name, c in zip(distinct(list(named), 40), named.values(), strict=True)
            ]
            self.legend += thinned(dots)
        self.second = next(
            (
                key
                for key in phase.own_keys
                if key != self.lead and 1 < scored[key].nunique() <= len(MARKERS)
            ),
            None,
        )
        if self.second:
            values = phase.by_value(self.second)
            self.marker = dict(zip(values, MARKERS, strict=False))
            named = {f"{self.second}={v}": m for v, m in self.marker.items()}
            self.legend += [
                handle(FAINT, name, ls="", marker=m)
                for name, m in zip(distinct(list(named), 40), named.values(), strict=True)
            ]

    def points(self, rows: pd.DataFrame, x: str) -> list[Point]:
        """Of a column against the objective."""
        return [
            Point(
                float(row[x]),
                float(row["value"]),
                self.colour.get(row[self.lead], FAINT) if self.lead else PLAIN,
                self.marker.get(row[self.second], "o") if self.second else "o",
            )
            for row in rows.to_dict("records")
        ]


def behaviour_table(phase: PhaseView, frame: pd.DataFrame) -> Table:
    """Means over seeds, in the order of the score."""
    steady, reason = steadiness(phase), incomparable_losses(phase)
    known = {
        steady.column: Column(steady.title, "number"),
        "gap": Column("val - train loss", "number"),
        "epochs_to_best": Column("epochs to best", "count"),
        "seconds_to_best": Column("time to best", "duration"),
        "efficiency": Column(f"{phase.metric} per epoch", "number"),
        "per_hour": Column(f"{phase.metric} per hour of {device_of(phase)}", "number"),
        "last": Column("at the last epoch", "number"),
        "seconds_per_epoch": Column("s per epoch", "number"),
        "peak_memory_mb": Column("peak memory [MB]", "number"),
    }
    done = frame[frame["status"] == "completed"]
    means = done.assign(efficiency=done["value"] / done["epochs_to_best"])
    means = means.groupby("candidate")[list(known)].mean()
    less = {"efficiency", "per_hour"} if phase.mode == "min" else set()  # a loss per epoch
    shown = [name for name in known if means[name].notna().any() and name not in less]
    columns = [
        *(Column(key) for key in phase.keys),
        Column(phase.metric, "number"),
        *(known[name] for name in shown),
    ]
    caption = f"{phase.title}: how training went, best first."
    if steady.column in shown:
        title = steady.title.removeprefix("std of ")
        caption += f" The standard deviation of {title} over the epochs tells stability"
        if "gap" in shown and not reason:
            caption += ", val - train loss at the best epoch overfitting; of both, less is better."
        else:
            caption += "; less is better."
    if "gap" in shown and reason:
        caption += f" Losses do not compare between the rows, nor does their gap: {reason}."
    table = Table(f"training_{phase.slug}", caption, columns)
    for one in phase.ranked:
        numbers = [float(means.at[one.index, name]) for name in shown]
        table.add(*(one.settings[key] for key in phase.keys), one.mean, *numbers)
    return table


def device_of(phase: PhaseView) -> str:
    """The kind of device that its runs had, as their records name it."""
    records = [record for one in phase.candidates for record in one.records]
    named = dict.fromkeys(str(record.environment.get("device", "device")) for record in records)
    return " and ".join(named) or "device"


def _convergence(phase: PhaseView, scored: pd.DataFrame, marks: _Marks) -> Figure:
    rows = scored.dropna(subset=["epochs_to_best"])
    points = marks.points(rows, "epochs_to_best")
    best = _best(phase, points)
    total, shade = rows["epochs"], None
    caption = f"{phase.title}: when each run was best against how good it was"
    if total.notna().all() and total.nunique() > 1:
        shade = Shade(total.tolist(), "epochs in all")
        outlines = f", outlines for {marks.lead}" if marks.lead else ""
        caption += f"; fillings stand for the epochs that it ran{outlines}"
    elif total.nunique() == 1:
        caption += f"; all ran {total.iloc[0]:.0f} epochs"
    axes = ("best epoch", phase.metric)
    draw = partial(scatter, points, *axes, marks.legend, whole=True, star=best, shade=shade)
    caption += "."
    return Figure(f"convergence_{phase.slug}", caption, draw)


def _best(phase: PhaseView, points: list[Point]) -> int:
    return max(range(len(points)), key=lambda row: phase.sign * points[row].y)


def _efficiency(phase: PhaseView, scored: pd.DataFrame, colours: Colours) -> list[Block]:
    """Only where more is better: a loss per epoch says nothing."""
    if phase.mode != "max":
        return []
    shares = (scored["value"] / scored["epochs_to_best"]).groupby(scored["candidate"]).mean()
    shares = shares.dropna().sort_values(ascending=False)[:MOST_RANKED]
    if len(shares) < 2:
        return []
    chosen = [phase.candidates[int(index)] for index in shares.index]
    hues = [_colour(one, colours) for one in chosen]
    of_all = f" (the first {MOST_RANKED} of {len(phase.ranked)})"
    caption = f"{phase.title}: score per epoch up to the best one"
    caption += f"{of_all if len(phase.ranked) > MOST_RANKED else ''}."
    title = f"{phase.metric} per epoch"
    names = [", ".join(plain(value) for value in one.settings.values()) for one in chosen]
    keys = ", ".join(map(short_key, phase.keys))
    draw = partial(ranking, names, shares.tolist(), title, hues, what=keys)
    return [Figure(f"efficiency_{phase.slug}", caption, draw)]


def _colour(one: CandidateView, colours: Colours) -> str:
    lead = one.phase.lead
    return colours.of(lead, one.settings[lead]) if lead else PLAIN


def _stability(phase: PhaseView, scored: pd.DataFrame, marks: _Marks) -> list[Block]:
    """How steadiness and score go together."""
    steady = steadiness(phase)
    if scored[steady.column].isna().all():  # no validation loss
        return []
    found = correlation(scored, steady.column, "value")
    if found.table is None:
        return [Text(f"Correlation of stability and score: none, {found.note}.", "note")]
    rows = found.table.to_dict("index")
    pearson, spearman = rows["pearson"], rows["spearman"]
    caption = (
        f"{phase.title}: stability against score of {pearson['n']} runs. {found.method}: "
        f"r = {number(pearson['r'])} (95 % interval {number(pearson['low'])} to "
        f"{number(pearson['high'])}, p = {number(pearson['p'])}), rank correlation "
        f"{number(spearman['r'])} (p = {number(spearman['p'])})."
    )
    caption += f" {steady.note}" if steady.note else ""
    both = scored.dropna(subset=[steady.column])
    points = marks.points(both, steady.column)
    title = f"stability: {steady.title} over epochs"
    best = _best(phase, points) if not math.isnan(pearson["r"]) else None
    draw = partial(scatter, points, title, phase.metric, marks.legend, star=best)
    return [Figure(f"stability_{phase.slug}", caption, draw)]

"""Within a phase: what the best configurations kept until their last epoch."""

from __future__ import annotations

import math
from functools import partial
from statistics import fmean

from phasewise.analysis.statistics.frame import is_number
from phasewise.report.content import Block, Figure, Text
from phasewise.report.figures.ends import Ends, best_against_last
from phasewise.report.figures.style import PLAIN, Colours
from phasewise.report.text import plain
from phasewise.report.view import CandidateView, PhaseView, short_key

MOST = 5
"""Configurations that are drawn."""


def top_figure(phase: PhaseView, colours: Colours) -> list[Block]:
    """The best `MOST`, at their best and at their last epoch.

    None where no last epoch is known, or there is one only; a sentence instead where it is as good
    as the best one of each.
    """
    ones = phase.comparable[:MOST]
    rows = [ends(phase, one) for one in ones]
    if len(rows) < 2 or all(math.isnan(row.last) for row in rows):
        return []
    lead = phase.lead
    inks = [colours.of(lead, one.settings[lead]) if lead else PLAIN for one in ones]
    what = f"the best {len(rows)} of {len(phase.ranked)} configurations"
    if len(rows) == len(phase.ranked):
        what = "all configurations"
    epochs = {record.cost.get("epochs") for one in ones for record in one.records}
    if all(row.change == 0 for row in rows):
        if epochs <= {1}:
            return []
        text = f"No figure of the best epoch against the last one: of {what}, the last is as good."
        return [Text(text, "note")]
    spread = (
        "; error bars: standard deviation over seeds (of fractions as far as 0..1)"
        if len(phase.plan.seeds) > 1
        else ""
    )
    caption = (
        f"{phase.title}: {what}, {phase.metric} at the best epoch against the last one, with the "
        f"change in percent{spread}."
    )
    keys = ", ".join(map(short_key, phase.keys))
    draw = partial(best_against_last, rows, phase.metric, inks, keys)
    return [Figure(f"top_{phase.slug}", caption, draw)]


def ends(phase: PhaseView, one: CandidateView) -> Ends:
    """Of a configuration, over the runs whose value at the last epoch is known too; where none has
    one, its best alone."""
    pairs = [
        (trial.value, float(trial.record.last[phase.metric]))
        for trial in one.result.trials
        if math.isfinite(trial.value)
        and trial.record is not None
        and is_number(trial.record.last.get(phase.metric))
    ]
    name = ", ".join(plain(value) for value in one.settings.values())
    best, std = one.mean, one.scores["std"]
    if len(pairs) < len(one.values):  # a mean of other runs would be no change
        return Ends(name, best, math.nan, std, math.nan)
    last = fmean(last for _, last in pairs)
    if math.isclose(last, best):  # means of the same numbers, by two ways
        return Ends(name, best, best, std, 0.0)
    change = 100 * (last - best) / abs(best) if best else math.nan
    return Ends(name, best, last, std, change)

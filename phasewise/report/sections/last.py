"""Within a phase: all metrics at the last epoch, where that is not the best one."""

from __future__ import annotations

import math
from statistics import fmean

from phasewise.analysis.statistics.frame import is_number
from phasewise.report.comparable import incomparable_losses
from phasewise.report.content import Block, Column, Table
from phasewise.report.sections.trials import LOSSES, headline
from phasewise.report.view import CandidateView, PhaseView


def last_table(phase: PhaseView) -> list[Block]:
    """Headline metrics and losses of each configuration at its last epoch, means over seeds, in the
    order of the best epoch; none where all runs were best at their last one."""
    ended = [record for one in phase.ranked for record in one.records if record.last]
    if all(record.last.get(phase.metric) == record.objective.get("value") for record in ended):
        return []
    names = [*headline(phase), *LOSSES]
    shown = [name for name in names if any(is_number(record.last.get(name)) for record in ended)]
    caption = (
        f"{phase.title}: the same configurations at their last epoch, in the order of the best"
        f"{', means over seeds' if len(phase.plan.seeds) > 1 else ''}."
    )
    if (reason := incomparable_losses(phase)) and {*LOSSES} & {*shown}:
        caption += f" Losses do not compare between the rows: {reason}."
    columns = [*(Column(key) for key in phase.keys), *(Column(name, "number") for name in shown)]
    table = Table(f"last_{phase.slug}", caption, columns)
    for one in phase.ranked:
        table.add(*(one.settings[key] for key in phase.keys), *(_mean(one, name) for name in shown))
    return [table]


def _mean(one: CandidateView, name: str) -> float:
    """Over the completed runs; NaN where one does not have it."""
    done = [record for record in one.records if record.status == "completed"]
    found = [record.last.get(name) for record in done]
    numbers = [float(value) for value in found if value is not None and is_number(value)]
    return fmean(numbers) if numbers and len(numbers) == len(found) else math.nan

"""Two keys whose effects depend on each other: the small grid around what won."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import pandas as pd

from phasewise.analysis.proposals.edges import as_word
from phasewise.analysis.proposals.known import Known, numbers
from phasewise.analysis.proposals.proposal import Cell, Proposal, last_name
from phasewise.analysis.statistics.effects import anova, marginal_means
from phasewise.analysis.statistics.frame import is_number, trial_frame
from phasewise.analysis.statistics.power import ALPHA
from phasewise.study.results import PhaseResult, Setting
from phasewise.text import format_value

MOST_CELLS = 8
"""Three values of each of two keys, without the winner itself."""


def interactions(known: Known) -> Iterator[Proposal]:
    """The strongest interaction of the last phase that has one, if cells around it are left."""
    for phase in reversed(known.case.compared):
        if phase.plan.kind not in ("grid", "combinations") or len(phase.own_keys) < 2:
            continue
        number = known.study.phases.index(phase)
        frame = trial_frame(known.study)
        own = frame[frame["phase"] == number]
        table = anova(own, phase.own_keys).table
        if table is None:
            continue
        terms = table[[" x " in str(name) for name in table.index]]
        clear = terms[terms["p"] <= ALPHA].sort_values("eta_sq_partial", ascending=False)
        for term, row in clear.iterrows():
            one, other = str(term).split(" x ")
            if cells := _cells(known, phase, own, one, other):
                reason = (
                    f"what {one} does depends on {other} (interaction p = {row['p']:.2g}, partial "
                    f"eta squared {row['eta_sq_partial']:.2g}): the grid around the winner"
                )
                name = f"{last_name(one)}_and_{last_name(other)}"
                yield Proposal("interaction", name, cells, reason)
                return


def _cells(
    known: Known, phase: PhaseResult, frame: pd.DataFrame, one: str, other: str
) -> tuple[Cell, ...]:
    """Those around the winner that have not run."""
    ran = {
        (it.setting(each, one), it.setting(each, other))
        for it in known.case.compared
        for each in it.candidates
        if each.has_outcome
    }
    sides = [_around(known, phase, frame, key) for key in (one, other)]
    cells = [pair for pair in product(*sides) if pair not in ran]
    words = [(f"{one}={_word(a)}", f"{other}={_word(b)}") for a, b in cells]
    return tuple(words[:MOST_CELLS])


def _around(known: Known, phase: PhaseResult, frame: pd.DataFrame, key: str) -> list[Setting]:
    """The winner's value with those half-way to its neighbours; of names the best two."""
    chosen = known.setting(key)
    tried = numbers(known.tried(key))
    if not isinstance(chosen, str) and len(tried) > 1:
        place = tried.index(chosen)
        near = [tried[i] for i in (place - 1, place + 1) if 0 <= i < len(tried)]
        between = [_middle(chosen, value) for value in near]
        return [chosen, *(value for value in between if value not in tried)]
    mode = phase.plan.objective["mode"]
    means = marginal_means(frame, key, mode)["mean"].dropna()
    best = means.sort_values(ascending=mode == "min").index[:2]
    return list(dict.fromkeys([chosen, *best]))


def _middle(one: float, other: float) -> float:
    """The geometric mean, or the arithmetic one where there is none; whole numbers stay whole."""
    value = math.sqrt(one * other) if one > 0 and other > 0 else (one + other) / 2
    if isinstance(one, int) and isinstance(other, int):
        return round(value)
    return float(f"{value:.4g}")


def _word(value: Setting) -> str:
    return as_word(value) if is_number(value) else format_value(value)

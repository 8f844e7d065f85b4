"""Of a phase whose trials were asked of a sampler: its space, its progress, where it looked."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from phasewise.report.content import Block, Column, Figure, Section, Table, Text
from phasewise.report.figures.search import Scale, best_so_far, parallel, slices
from phasewise.report.text import number, plain
from phasewise.report.view import CandidateView, PhaseView, short_key
from phasewise.study.journal import SearchPlan
from phasewise.study.naming import parse_override
from phasewise.study.results import Setting, as_setting
from phasewise.study.space import Dimension

NAMES = {
    "tpe": "TPE (tree-structured Parzen estimator)",
    "gp": "a Gaussian process",
    "cmaes": "CMA-ES (adaptation of a covariance matrix)",
    "qmc": "a quasi-random sequence (Sobol's)",
    "random": "uniform random draws",
}

BEST_SHARE = 5
"""The best trials are one of so many."""

LEAST_DRAWN = 3
"""Trials with a result that figures over the keys need."""

MOST_PANELS = 9


def search_section(phase: PhaseView) -> Section | None:
    """``None`` for a phase of another kind, or one that has not begun."""
    search = phase.plan.search
    if search is None or len(phase.candidates) < 2:
        return None
    scored = [one for one in phase.candidates if math.isfinite(_score(one))]
    blocks: list[Block] = [Text(_told(phase, search, len(scored))), _space(phase, search, scored)]
    blocks.append(_curve(phase, search))
    inside = [one for one in scored if None not in _places(phase, search, one)]
    if len(inside) >= LEAST_DRAWN:
        blocks += _over_keys(phase, search, inside)
    return Section("Search", blocks, anchor=f"search_{phase.slug}")


def _score(one: CandidateView) -> float:
    """The mean over the seeds, as the sampler was told it; NaN where a seed has no result."""
    whole = len(one.values) == len(one.phase.plan.seeds)
    return one.mean if whole else math.nan


def _told(phase: PhaseView, search: SearchPlan, scored: int) -> str:
    """What was asked, of whom, and what came of it."""
    each, count = len(phase.plan.rivals()), len(phase.candidates)
    random = f", the first {search.startup} of them at random" if search.startup else ""
    where = f" in each of {each} branches by itself" if phase.plan.branches else ""
    batch = f", {search.parallel} at a time" if search.parallel > 1 else ", one at a time"
    lines = [
        f"{count - each} of {each * search.trials} trials were asked of {NAMES[search.sampler]}"
        f"{where}{random}{batch} (seed {search.seed}, {search.library})."
    ]
    stopped = sum(one.result.plan.epochs is not None for one in phase.candidates)
    if stopped:
        lines.append(
            f"Halving stopped {stopped}, which the sampler took for worse than the others."
        )
    if missing := len(phase.candidates) - scored - stopped:
        lines.append(f"Without a result: {missing}; the sampler was told the worst one for them.")
    if search.repeated:
        again = f"{search.repeated} times it asked for what had been tried"
        lines.append(f"{again}, and was told the result again.")
    if search.ended:
        lines.append(f"It ended there: {search.ended}.")
    return " ".join(lines)


def _space(phase: PhaseView, search: SearchPlan, scored: list[CandidateView]) -> Table:
    """A row per key: where it was searched, what was chosen and where the best trials lie."""
    best = [one for one in phase.ranked if one in scored][: -(-len(scored) // BEST_SHARE)]
    caption = (
        f"{phase.title}: the space that was searched, the incumbent's and the winner's values, and "
        f"those of the best fifth of the trials ({len(best)}), which tell how much a value matters "
        "and where the space may be too narrow."
    )
    columns = ("key", "searched", "scale", "incumbent", "winner", "the best fifth")
    table = Table(f"search_{phase.slug}", caption, [Column(title) for title in columns])
    for one in search.space:
        ends = (phase.incumbent, phase.winner)
        chosen = [plain(_setting(it, one)) if it is not None else "-" for it in ends]
        found = [_setting(it, one) for it in best]
        table.add(one.name, _searched(one), _scale(one), *chosen, _range(found))
    return table


def _setting(one: CandidateView, dimension: Dimension) -> Setting:
    return one.phase.result.setting(one.result, dimension.name)


def _searched(one: Dimension) -> str:
    if one.kind == "choice":
        return ", ".join(word.partition("=")[2] for word in one.words)
    step = f" by {one.step:g}" if one.step not in (None, 1) else ""
    return f"{one.low:g} to {one.high:g}{step}"


def _scale(one: Dimension) -> str:
    if one.kind == "choice":
        return "choices"
    return ("logarithmic" if one.log else "linear") + (", whole" if one.kind == "int" else "")


def _range(values: list[Setting]) -> str:
    """From where to where, or which how often."""
    if values and all(isinstance(value, int | float) for value in values):
        ends = (float(min(values)), float(max(values)))
        return " to ".join(dict.fromkeys(f"{end:.4g}" for end in ends))
    counts = sorted(dict.fromkeys(values), key=lambda it: -values.count(it))
    return ", ".join(f"{plain(value)} ({values.count(value)})" for value in counts)


def _curve(phase: PhaseView, search: SearchPlan) -> Figure:
    shown = phase.plan.rivals()[:MOST_PANELS]
    scores = {
        branch.level: np.array([_score(phase.candidates[row]) for row in branch.candidates], float)
        for branch in shown
    }
    caption = (
        f"{phase.title}: {phase.metric} of each trial in the order in which they were asked for, "
        "means over seeds, and the best so far. Trial 0 is the incumbent."
    )
    if phase.plan.branches:
        caption += f" Each {phase.plan.per} was searched by itself, from its own incumbent"
        left = len(phase.plan.branches) - len(shown)
        caption += f"; {left} more are not drawn." if left else "."
    draw = partial(
        best_so_far,
        scores,
        phase.mode,
        phase.metric,
        at_random=search.startup,
        incumbent=bool(phase.plan.branches) or phase.plan.incumbent == 0,
    )
    return Figure(f"search_{phase.slug}", caption, draw)


def _over_keys(phase: PhaseView, search: SearchPlan, scored: list[CandidateView]) -> list[Block]:
    """Each key alone, and all of them beside each other."""
    found = [_places(phase, search, one) for one in scored]
    values = np.array(found, float).T
    scores = np.array([_score(one) for one in scored], float)
    scales = [_axis(phase, one) for one in search.space]
    kept = [row for row, own in enumerate(values) if len(np.unique(own)) > 1][:MOST_PANELS]
    if not kept:
        return []
    scales, values = [scales[row] for row in kept], values[kept]
    what = (phase.metric, phase.mode)
    best = number(float((phase.sign * scores).max() * phase.sign))
    caption = (
        f"{phase.title}: {phase.metric} over each searched key, one dot a trial, the later the "
        f"brighter, star: the best ({best})."
    )
    blocks: list[Block] = [
        Figure(f"slices_{phase.slug}", caption, partial(slices, scales, values, scores, *what))
    ]
    if len(kept) > 1:
        caption = (
            f"{phase.title}: the values of each trial as a line, the brighter the better its "
            f"{phase.metric} ranks. Where bright lines meet, a key matters."
        )
        draw = partial(parallel, scales, values, scores, *what)
        blocks.append(Figure(f"parallel_{phase.slug}", caption, draw))
    return blocks


def _axis(phase: PhaseView, one: Dimension) -> Scale:
    if one.kind != "choice":
        return Scale(short_key(one.name), one.low, one.high, one.log)
    names = tuple(str(plain(as_setting(value))) for value in _choices(one))
    return Scale(short_key(one.name), 0, len(names) - 1, choices=names)


def _choices(one: Dimension) -> list[Setting]:
    return [as_setting(parse_override(word).value()) for word in one.words]


def _places(phase: PhaseView, search: SearchPlan, one: CandidateView) -> list[float | None]:
    """Its values as they lie on the axes; ``None`` for one outside of the space, as an incumbent
    may have it."""
    found: list[float | None] = []
    for dimension in search.space:
        value = _setting(one, dimension)
        if dimension.kind == "choice":
            choices = _choices(dimension)
            found.append(choices.index(value) if value in choices else None)
            continue
        number_ = isinstance(value, int | float) and dimension.low <= value <= dimension.high
        found.append(float(value) if number_ else None)
    return found

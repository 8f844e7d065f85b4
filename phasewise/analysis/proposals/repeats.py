"""Gains within the noise of seeds: so many more seeds as would tell them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phasewise.analysis.audit.choices import rival_of
from phasewise.analysis.proposals.known import Known, mean_of, words_of
from phasewise.analysis.proposals.proposal import Cell, Proposal
from phasewise.analysis.statistics.intervals import compare_with
from phasewise.analysis.statistics.power import ALPHA, MOST, pairs_needed
from phasewise.study.objectives import PARETO, ranking_values
from phasewise.study.results import PhaseResult

FIRST_SEEDS = 3
"""Where there is one: to know the noise."""

MOST_SEEDS = 10
"""In all. A gain that needs more of them is hardly worth the time."""

MOST_RIVALS = 3
"""So many gains are looked at, those of the last phases first."""


@dataclass(frozen=True)
class _Doubt:
    """A gain that may be luck.

    Attributes:
        words: what makes the rival of the final configuration.
        text: the gain, in words.
        needed: seeds that would tell it; ``None`` where there is hardly a difference.
        there: seeds that both have.
    """

    words: Cell
    text: str
    needed: int | None
    there: int


def repeats(known: Known) -> tuple[list[Proposal], list[str]]:
    """One phase for all gains that more seeds would tell, and what is to be told of the others."""
    doubts, told = [], []
    for doubt in _doubts(known):
        if doubt.needed is None:
            told.append(
                f"{doubt.text}: more than {MOST} seeds would be needed to tell it, so that there "
                "is hardly a difference and either will do"
            )
        elif doubt.there >= MOST_SEEDS:
            told.append(f"{doubt.text}, with {doubt.there} seeds: no more are proposed")
        else:
            doubts.append(doubt)
    if not doubts:
        return [], told
    wanted = max(doubt.needed or 0 for doubt in doubts)
    seeds = more_seeds(known.phase.plan.seeds, min(wanted, MOST_SEEDS))
    parts = [doubt.text for doubt in doubts]
    least = min(doubt.there for doubt in doubts)
    how = f"about {wanted} seeds would tell, if the differences are what they seem"
    if least < 2:
        how = f"one run each tells no gain from luck; {len(seeds)} seeds show the noise"
    elif wanted > MOST_SEEDS:
        how += f"; {MOST_SEEDS} is the most that is proposed"
    cells = tuple(dict.fromkeys(doubt.words for doubt in doubts))
    return [Proposal("seeds", "seeds", cells, f"{'; '.join(parts)}: {how}", seeds)], told


def more_seeds(seeds: Sequence[int], count: int) -> tuple[int, ...]:
    """The seeds that there are and the next ones, ``count`` in all.

    >>> more_seeds([0, 5], 4)
    (0, 5, 1, 2)
    """
    found = list(seeds)
    number = 0
    while len(found) < count:
        if number not in found:
            found.append(number)
        number += 1
    return tuple(found)


def _doubts(known: Known) -> Iterator[_Doubt]:
    found = 0
    seen: set[Cell] = set()
    winners = {phase.plan.name: (phase, index) for phase, index in known.case.winners()}
    for plan in known.study.plan.latest_first():
        phase, index = winners.get(plan.name, (None, 0))
        if phase is None or plan.kind == "rerun" or PARETO in plan.choose or found >= MOST_RIVALS:
            continue
        chosen = phase.candidates[index]
        if any(phase.setting(chosen, key) != known.setting(key) for key in phase.keys):
            continue  # a later phase chose otherwise: the gain is not in the final configuration
        doubt = _of_phase(phase, index)
        if doubt is not None and doubt.words not in seen:
            seen.add(doubt.words)
            found += 1
            yield doubt


def _of_phase(phase: PhaseResult, index: int) -> _Doubt | None:
    chosen = phase.candidates[index]
    rival = rival_of(phase, index)
    if rival is None and max(len(one.values) for one in phase.candidates) == 1:
        rival = second_best(phase, index)
    if rival is None or phase.candidates[rival].plan.infeasible:
        return None
    words = words_of(phase, rival, index)
    if words is None:
        return None
    ours, theirs = (ranking_values(phase.plan, phase.candidates[i]) for i in (index, rival))
    gain = abs(mean_of(phase, chosen) - mean_of(phase, phase.candidates[rival]))
    text = f"{phase.label(chosen)} is {gain:.3g} better than {phase.label(phase.candidates[rival])}"
    common = [seed for seed in ours if seed in theirs]
    if len(common) < 2:
        return _Doubt(words, text, FIRST_SEEDS, len(common)) if common else None
    table = compare_with(phase, index).table
    assert table is not None
    p = float(table[table["candidate"] == rival]["p_holm"].iloc[0])
    if not p > ALPHA:
        return None
    needed = pairs_needed([ours[seed] - theirs[seed] for seed in common])
    text += f", within the noise of {len(common)} seeds (p = {p:.2g})"
    if needed is not None:  # what a correction for several asks for is more than one pair does
        needed = max(needed, len(common) + 1)
    return _Doubt(words, text, needed, len(common))


def second_best(phase: PhaseResult, index: int) -> int | None:
    """The best of the others that may win at all; ``None`` where there is none with a result."""
    sign = 1.0 if phase.plan.objective["mode"] == "max" else -1.0
    means = {
        row: sign * mean_of(phase, one)
        for row, one in enumerate(phase.candidates)
        if row != index and one.values and not one.plan.infeasible
    }
    finite = {row: mean for row, mean in means.items() if math.isfinite(mean)}
    return max(finite, key=lambda row: finite[row]) if finite else None

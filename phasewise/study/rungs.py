"""Who goes on in successive halving, Hyperband and ASHA; knows nothing of how trials are run.

Successive halving: all trials for a little, the better part of them on and on (Jamieson and
Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016).
Hyperband: several such brackets, which begin at different rungs, for the case that the first rung
misleads (Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, JMLR
2018). ASHA: a trial goes on as soon as it is in the top 1/factor of those that its rung has seen,
without waiting for the others (Li et al., A System for Massively Parallel Hyperparameter Tuning,
MLSys 2020).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from phasewise.study.selection import survivors


@dataclass(frozen=True)
class Ladder:
    """After how much is compared.

    Attributes:
        amounts: of epochs, or of whatever is scaled, ascending; the last is the end.
        factor: about 1/factor of the trials go on from each rung.
        brackets: of Hyperband; bracket ``b`` begins at rung ``b``.
    """

    amounts: tuple[float, ...]
    factor: float
    brackets: int = 1

    @property
    def top(self) -> int:
        """The index of the last rung."""
        return len(self.amounts) - 1

    def weights(self) -> list[float]:
        """How many trials Hyperband gives to each bracket, up to a common factor and rounding.

        ``(s_max + 1) / (s + 1) * factor ** s`` with ``s`` rungs left to climb (Li et al. 2018,
        algorithm 1), so that brackets cost about the same.
        """
        left = [self.top - start for start in range(self.brackets)]
        return [(self.top + 1) / (s + 1) * self.factor**s for s in left]


def epoch_rungs(first: int, factor: float, epochs: int) -> list[int]:
    """After how many epochs is compared: 2, 6, 18 of 18 by a factor of 3; the last is the end."""
    found: list[int] = []
    rung = float(first)
    while round(rung) < epochs:
        if not found or round(rung) > found[-1]:
            found.append(round(rung))
        rung *= factor
    return [*found, epochs]


def deal(names: Sequence[str], ladder: Ladder) -> list[int]:
    """The bracket of each trial, by Hyperband's proportions.

    Neighbours in a grid have much in common, so they are dealt in the order of a hash of their
    names, the same wherever they are dealt.
    """
    weights = ladder.weights()
    shares = [weight / sum(weights) for weight in weights]
    order = sorted(range(len(names)), key=lambda row: hashlib.sha256(names[row].encode()).digest())
    found, dealt = [0] * len(names), [0] * len(shares)
    for number, row in enumerate(order, 1):
        lacks = [share * number - count for share, count in zip(shares, dealt, strict=True)]
        bracket = lacks.index(max(lacks))
        found[row] = bracket
        dealt[bracket] += 1
    return found


@dataclass(frozen=True)
class Move:
    """A trial that is to run up to a rung."""

    row: int
    rung: int


class Race:
    """Decides wave by wave which trials run how far, from their values at the rungs alone.

    The same values lead to the same waves, whatever ended first: a wave is decided when all of the
    one before are known. The incumbent always goes on. A trial without a value never does.

    Args:
        ladder: the rungs.
        mode: ``max`` or ``min``.
        incumbent: the row that is never dropped.
        parallel: ``None``: each bracket waits at a rung for all of its trials (synchronous), else
            how many trials a wave of ASHA has.

    Attributes:
        values: by rung and row.
    """

    def __init__(
        self,
        ladder: Ladder,
        mode: str,
        *,
        incumbent: int | None = None,
        parallel: int | None = None,
    ) -> None:
        self.ladder = ladder
        self.mode = mode
        self.incumbent = incumbent
        self.parallel = parallel
        self.values: list[dict[int, float]] = [{} for _ in ladder.amounts]
        self._bracket: dict[int, int] = {}
        self._sent: dict[int, int] = {}  # the rung that a trial was last sent to

    def enter(self, row: int, bracket: int = 0) -> None:
        """Let a trial take part; in order."""
        self._bracket[row] = bracket

    def tell(self, row: int, rung: int, value: float) -> None:
        """The objective of a trial at a rung; NaN if it has none."""
        self.values[rung][row] = value

    def wave(self) -> list[Move]:
        """What is to run next, after all of the last wave was told; nothing when it is over."""
        if self.parallel is None:
            moves = [move for bracket in self._brackets() for move in self._rung_of(bracket)]
        else:
            moves = self._top_ones(self.parallel)
        for move in moves:
            self._sent[move.row] = move.rung
        return moves

    def reached(self, row: int) -> int:
        """The last rung to which a trial came; -1 if it has not begun."""
        return self._sent.get(row, -1)

    def has(self, row: int) -> bool:
        """Whether a trial takes part."""
        return row in self._bracket

    def _brackets(self) -> range:
        return range(self.ladder.brackets)

    def _rows(self, bracket: int) -> list[int]:
        return [row for row, own in self._bracket.items() if own == bracket]

    def _rung_of(self, bracket: int) -> list[Move]:
        """The next rung of a bracket that waits for all of its trials."""
        rows = self._rows(bracket)
        rung = max((self.reached(row) for row in rows), default=-1)
        if rung < 0:
            return [Move(row, bracket) for row in rows]
        if rung == self.ladder.top:
            return []
        here = [row for row in rows if self.reached(row) == rung]
        kept = self._best(here, rung, math.ceil(len(here) / self.ladder.factor))
        return [Move(row, rung + 1) for row in here if row in kept or row == self.incumbent]

    def _best(self, rows: Sequence[int], rung: int, count: int) -> set[int]:
        values = [self.values[rung][row] for row in rows]
        return {rows[place] for place in survivors(values, count, self.mode)}

    def _top_ones(self, count: int) -> list[Move]:
        """A wave of ASHA: who can go on, from the highest rung down, then who begins."""
        moves = self._promotable(0)[:count]
        while len(moves) < count and (move := self._next()) is not None:
            moves.append(move)
        # nobody is left to begin: the best of each rung goes on, however few it has seen
        return moves or self._promotable(1)[:count]

    def _promotable(self, least: int) -> list[Move]:
        found = []
        for rung in reversed(range(self.ladder.top)):
            for bracket in self._brackets():
                seen = [row for row in self._rows(bracket) if row in self.values[rung]]
                count = min(max(math.floor(len(seen) / self.ladder.factor), least), len(seen))
                best = self._best(seen, rung, count)
                found += [
                    Move(row, rung + 1)
                    for row in seen
                    if self._sent[row] == rung and (row in best or row == self.incumbent)
                ]
        return found

    def _next(self) -> Move | None:
        """A trial that has not begun; it has, for this wave, once it is given."""
        for row, bracket in self._bracket.items():
            if row not in self._sent:
                self._sent[row] = bracket
                return Move(row, bracket)
        return None


class Races:
    """Those of the branches of a phase, side by side: nothing is dropped for what another branch
    has. As a `Race`, whose waves are those of all of them.

    Args:
        races: with their trials, each of which takes part in one.
    """

    def __init__(self, races: Sequence[Race]) -> None:
        self._races = races

    def tell(self, row: int, rung: int, value: float) -> None:
        """As `Race.tell`."""
        for race in self._races:
            if race.has(row):
                race.tell(row, rung, value)

    def wave(self) -> list[Move]:
        """As `Race.wave`."""
        return [move for race in self._races for move in race.wave()]

    def reached(self, row: int) -> int:
        """As `Race.reached`."""
        return max(race.reached(row) for race in self._races)

"""Who goes on from a rung: by the published rules, from the values alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from phasewise.study.rungs import Ladder, Move, Race, deal, epoch_rungs

Value = Callable[[int, int], float]


def run(race: Race, value: Value) -> list[list[Move]]:
    """All waves of a race whose values at the rungs are known."""
    waves = []
    while moves := race.wave():
        for move in moves:
            race.tell(move.row, move.rung, value(move.row, move.rung))
        waves.append(moves)
    return waves


def race_of(count: int, ladder: Ladder, *, parallel: int | None = None, **more: object) -> Race:
    race = Race(ladder, str(more.get("mode", "max")), parallel=parallel, incumbent=0)
    brackets = deal([str(row) for row in range(count)], ladder)
    for row in range(count):
        race.enter(row, brackets[row])
    return race


def noise(row: int, rung: int) -> float:
    return random.Random(f"{row} {rung}").random()


@pytest.mark.parametrize(
    ("first", "factor", "epochs", "rungs"),
    [(2, 3, 18, [2, 6, 18]), (1, 1.5, 4, [1, 2, 3, 4]), (5, 3, 4, [4]), (1, 3, 8, [1, 3, 8])],
)
def test_rungs_end_with_the_whole_and_come_once(
    first: int, factor: float, epochs: int, rungs: list[int]
) -> None:
    assert epoch_rungs(first, factor, epochs) == rungs


def test_brackets_have_the_published_proportions() -> None:
    """Li et al. 2018, table 1: R = 81, factor 3; 81, 34, 15, 8 and 5 trials."""
    ladder = Ladder((1, 3, 9, 27, 81), 3, brackets=5)
    assert [math.ceil(weight) for weight in ladder.weights()] == [81, 34, 15, 8, 5]
    dealt = deal([str(row) for row in range(143)], ladder)
    counts = [dealt.count(bracket) for bracket in range(5)]
    assert all(abs(a - b) <= 1 for a, b in zip(counts, [81, 34, 15, 8, 5], strict=True))


def test_a_bracket_is_a_matter_of_the_configuration_not_of_its_place() -> None:
    ladder = Ladder((1, 3, 9), 3, brackets=3)
    names = [f"lr={row}" for row in range(20)]
    dealt = dict(zip(names, deal(names, ladder), strict=True))
    assert dict(zip(names[::-1], deal(names[::-1], ladder), strict=True)) == dealt
    assert len({*dealt.values()}) == 3


def test_halving_keeps_the_best_third_and_the_incumbent() -> None:
    race = race_of(12, Ladder((1, 3, 9), 3))
    waves = run(race, lambda row, rung: row)
    rows = [[move.row for move in moves] for moves in waves]
    assert rows == [[*range(12)], [0, 8, 9, 10, 11], [0, 10, 11]]
    assert [race.reached(row) for row in range(12)] == [2, *[0] * 7, 1, 1, 2, 2]
    worst = run(race_of(12, Ladder((1, 3, 9), 3), mode="min"), lambda row, rung: row)
    assert [move.row for move in worst[1]] == [0, 1, 2, 3]


def test_each_bracket_begins_at_its_rung_and_halves_by_itself() -> None:
    ladder = Ladder((1, 3, 9), 3, brackets=3)
    race = race_of(24, ladder)
    brackets = deal([str(row) for row in range(24)], ladder)
    first, *_ = run(race, noise)
    assert {move.row: move.rung for move in first} == dict(enumerate(brackets))
    for bracket in range(3):
        rows = [row for row in range(24) if brackets[row] == bracket]
        alone = Race(Ladder((1, 3, 9)[bracket:], 3), "max", incumbent=0)
        for row in rows:
            alone.enter(row)
        run(alone, lambda row, rung, shift=bracket: noise(row, rung + shift))  # type: ignore[misc]
        assert [race.reached(row) for row in rows] == [alone.reached(row) + bracket for row in rows]


@pytest.mark.parametrize("parallel", [None, 1, 3])
def test_what_has_no_value_never_goes_on(parallel: int | None) -> None:
    def value(row: int, rung: int) -> float:
        return math.nan if row % 2 else float(row)

    race = race_of(9, Ladder((1, 3, 9), 3), parallel=parallel)
    run(race, value)
    assert all(race.reached(row) == 0 for row in range(1, 9, 2))
    assert race.reached(8) == race.reached(0) == 2
    nothing = race_of(9, Ladder((1, 3, 9), 3), parallel=parallel)
    run(nothing, lambda row, rung: math.nan)
    assert [nothing.reached(row) for row in range(9)] == [2, *[0] * 8]  # the incumbent alone


def published_asha(count: int, rungs: int, factor: int, value: Value) -> list[Move]:
    """Li et al. 2020, algorithm 2 with one worker: written anew from the paper."""
    done: list[list[tuple[float, int]]] = [[] for _ in range(rungs)]
    promoted: list[set[int]] = [set() for _ in range(rungs)]
    moves: list[Move] = []
    begun = 0
    while True:
        for k in reversed(range(rungs - 1)):
            top = sorted(done[k], key=lambda it: -it[0])[: len(done[k]) // factor]
            ready = [row for _, row in top if row not in promoted[k]]
            if ready:
                row, rung = min(ready), k + 1
                promoted[k].add(row)
                break
        else:
            if begun == count:
                return moves
            row, rung, begun = begun, 0, begun + 1
        done[rung].append((value(row, rung), row))
        moves.append(Move(row, rung))


@pytest.mark.parametrize("seed", range(5))
def test_one_at_a_time_is_the_published_asha(seed: int) -> None:
    def value(row: int, rung: int) -> float:
        return noise(row + 1000 * seed, rung)

    race = Race(Ladder((1, 3, 9, 27), 3), "max", parallel=1)
    for row in range(60):
        race.enter(row)
    ours = [move for moves in run(race, value) for move in moves]
    theirs = published_asha(60, 4, 3, value)
    assert ours[: len(theirs)] == theirs
    # theirs ends where nobody is left to begin; ours sees to it that each rung sends somebody on
    assert {move.rung for move in ours[len(theirs) :]} <= {1, 2, 3}
    assert max(move.rung for move in ours) == 3


def test_a_wave_is_decided_by_what_ended_before_it() -> None:
    """So that within a wave nothing depends on what is ready first."""
    race = race_of(20, Ladder((1, 3, 9), 3), parallel=4)
    waves = run(race, noise)
    assert all(len(moves) <= 4 for moves in waves)
    told: set[tuple[int, int]] = set()
    for moves in waves:
        assert all(move.rung == 0 or (move.row, move.rung - 1) in told for move in moves)
        told |= {(move.row, move.rung) for move in moves}
    again = race_of(20, Ladder((1, 3, 9), 3), parallel=4)
    order = random.Random(0)
    for moves in waves:
        assert again.wave() == moves
        for move in order.sample(moves, len(moves)):
            again.tell(move.row, move.rung, noise(move.row, move.rung))
    assert again.wave() == []


def test_asha_goes_on_before_all_have_begun() -> None:
    waves = run(race_of(12, Ladder((1, 3), 3), parallel=2), lambda row, rung: row)
    first_on = next(n for n, moves in enumerate(waves) if any(m.rung for m in moves if m.row))
    last_begun = max(n for n, moves in enumerate(waves) if any(m.rung == 0 for m in moves))
    assert first_on < last_begun

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from phasewise.study.selection import paired_p_value, select, survivors

NAN = math.nan


def chosen(candidates: list[dict[int, float]], incumbent: int | None, **more: Any) -> Any:
    seeds = sorted({seed for values in candidates for seed in values})
    decision = select(candidates, incumbent, **({"mode": "max", "seeds": seeds} | more))
    return decision.winner, decision.verdict


def test_the_best_mean_wins() -> None:
    rows = [{0: 0.5, 1: 0.5}, {0: 0.9, 1: 0.2}, {0: 0.1, 1: 0.8}]
    assert chosen(rows, 0) == (1, "adopted")
    assert chosen(rows, None) == (1, "adopted")
    assert chosen(rows, 1) == (1, "kept")
    assert chosen(rows, 1, mode="min") == (2, "adopted")


def test_ties_keep_the_incumbent_and_else_the_first() -> None:
    rows = [{0: 0.5}, {0: 0.7}, {0: 0.7}]
    assert chosen(rows, 2) == (2, "kept")
    assert chosen(rows, 1) == (1, "kept")
    assert chosen(rows, None) == (1, "adopted")
    assert chosen([{0: 0.5}] * 3, None) == (0, "adopted")


@pytest.mark.parametrize("undefined", [NAN, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_undefined_values_never_win(undefined: float, mode: str) -> None:
    rows = [{0: undefined}, {0: 0.5}, {}]
    assert chosen(rows, None, mode=mode, seeds=[0]) == (1, "adopted")
    assert chosen(rows, 0, mode=mode, seeds=[0]) == (1, "adopted")
    assert chosen([{0: undefined}, {}], 0, mode=mode, seeds=[0]) == (None, "undecided")


def test_missing_seeds() -> None:
    """One lucky seed of a configuration that failed with the others is no comparison."""
    rows = [{0: 0.5, 1: 0.5}, {0: 0.9}, {0: 0.9, 1: NAN}]
    assert chosen(rows, 0, seeds=[0, 1]) == (0, "kept")
    assert chosen(rows[1:], 0, seeds=[0, 1]) == (0, "kept")
    assert chosen([{0: 0.1}, {0: 0.4, 1: 0.4}, {1: 0.9}], 0, seeds=[0, 1, 2]) == (1, "adopted")
    decision = select(rows, 0, mode="max", seeds=[0, 1, 2])
    assert "2 of 3 seeds" in decision.reason


def test_seeds_of_another_phase_do_not_count() -> None:
    rows = [{0: 0.5, 7: 9.0}, {0: 0.6, 7: -9.0}]
    assert chosen(rows, 0, seeds=[0]) == (1, "adopted")


def test_gains_within_noise_are_not_adopted_where_asked() -> None:
    incumbent = {0: 0.50, 1: 0.52, 2: 0.48, 3: 0.51}
    noise = {0: 0.53, 1: 0.50, 2: 0.51, 3: 0.50}
    gain = {0: 0.60, 1: 0.63, 2: 0.57, 3: 0.62}
    assert chosen([incumbent, noise], 0) == (1, "adopted")
    assert chosen([incumbent, noise], 0, significant=True) == (0, "within_noise")
    assert chosen([incumbent, noise, gain], 0, significant=True) == (2, "adopted")
    lower = [{seed: -value for seed, value in row.items()} for row in (incumbent, noise, gain)]
    assert chosen(lower, 0, significant=True, mode="min") == (2, "adopted")
    assert chosen(lower[:2], 0, significant=True, mode="min") == (0, "within_noise")


def test_nothing_is_adopted_without_a_test_where_one_is_asked_for() -> None:
    best = {0: 0.9, 1: 0.9, 2: 0.9}
    short = select([{0: 0.1, 1: 0.1}, best], 0, mode="max", seeds=[0, 1, 2], significant=True)
    assert (short.winner, short.verdict) == (0, "kept")
    assert short.reason == "the incumbent has 2 of 3 results, so that no gain can be tested"
    none = select([{}, best], 0, mode="max", seeds=[0, 1, 2], significant=True)
    assert (none.winner, none.verdict) == (None, "undecided")
    assert chosen([{0: 0.1, 1: 0.1}, best], 0) == (1, "adopted")


def test_many_challengers_need_a_clearer_gain() -> None:
    incumbent, best = {0: 0.50, 1: 0.52, 2: 0.48}, {0: 0.56, 1: 0.55, 2: 0.53}
    p_value = stats.ttest_1samp([0.06, 0.03, 0.05], 0, alternative="greater").pvalue
    rest = [{0: 0.1, 1: 0.1, 2: 0.1}] * 5
    assert 0.01 < p_value < 0.05 < 6 * p_value
    one = select([incumbent, best], 0, mode="max", seeds=[0, 1, 2], significant=True)
    six = select([incumbent, best, *rest], 0, mode="max", seeds=[0, 1, 2], significant=True)
    assert (one.verdict, six.verdict) == ("adopted", "within_noise")
    assert one.p_value == pytest.approx(p_value)
    assert six.p_value == pytest.approx(6 * p_value)
    assert "p = " in six.reason


def test_paired_p_value() -> None:
    new, old = {0: 0.3, 1: 0.5, 2: 0.4, 9: 1.0}, {0: 0.2, 1: 0.45, 2: 0.1, 8: 0.0}
    reference = stats.ttest_1samp([0.1, 0.05, 0.3], 0, alternative="greater").pvalue
    assert paired_p_value(new, old, "max") == pytest.approx(reference)
    assert paired_p_value(new, old, "min") == pytest.approx(1 - reference)
    assert paired_p_value({0: 1.0}, {0: 0.0}, "max") == 1
    assert paired_p_value({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}, "max") == 0
    assert paired_p_value({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, "max") == 1
    assert paired_p_value({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}, "min") == 1


def test_survivors() -> None:
    assert survivors([0.1, NAN, 0.5, 0.5, 0.4], 2, "max") == [2, 3]
    assert survivors([0.1, NAN, 0.5, 0.5, 0.4], 2, "min") == [0, 4]
    assert survivors([0.1, 0.5, 0.5], 1, "max") == [1]
    assert survivors([NAN, NAN], 1, "max") == []


def test_what_only_rounding_tells_apart_is_a_tie() -> None:
    """The same two values, added in another order with what cancels out."""
    ours = {0: 0.41873812875559302, 1: 0.41873812875559302}
    theirs = {0: 0.41873812875559296, 1: 0.41873812875559296}
    assert ours != theirs
    decision = select([theirs, ours], 0, mode="max", seeds=[0, 1])
    assert (decision.winner, decision.verdict) == (0, "kept")
    decision = select([theirs, {0: 0.418738129, 1: 0.418738129}], 0, mode="max", seeds=[0, 1])
    assert (decision.winner, decision.verdict) == (1, "adopted")

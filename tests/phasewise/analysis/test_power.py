"""How many more seeds a difference would take."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from phasewise.analysis.statistics.power import (
    TWO_FIRST,
    more_seeds,
    more_trials,
    pairs_needed,
    trials_needed,
)


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize("differences", [[1.0, 2.0, 0.5], [0.3, -0.2, 0.4, 0.1], [-1.0, -1.2, 0.1]])
def test_pairs_against_statsmodels_solver(differences: list[float], alpha: float) -> None:
    effect = abs(fmean(differences)) / stdev(differences)
    solved = TTestPower().solve_power(effect, alpha=alpha, power=0.8)
    assert pairs_needed(differences, alpha) == math.ceil(float(solved))


def test_pairs_against_the_noncentral_t_distribution() -> None:
    """Cohen's example: d = .5 takes 34 pairs at 5 %, two-sided, for a power of 80 %."""
    differences = [0.5 + math.sqrt(0.5), 0.5 - math.sqrt(0.5)]  # mean .5, standard deviation 1
    assert stdev(differences) == pytest.approx(1)
    assert pairs_needed(differences) == 34

    def power(n: int) -> float:
        limit, shift = stats.t.ppf(0.975, n - 1), 0.5 * math.sqrt(n)
        tails = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
        return float(tails)

    assert power(33) < 0.8 <= power(34)


def test_trials_against_statsmodels_solver() -> None:
    one, other = [0.1, 0.3, 0.2, 0.5], [0.4, 0.6, 0.7]
    noise = math.sqrt((stdev(one) ** 2 + stdev(other) ** 2) / 2)
    effect = abs(fmean(one) - fmean(other)) / noise
    solved = TTestIndPower().solve_power(effect, alpha=0.05, power=0.8)
    assert trials_needed(one, other) == math.ceil(float(solved))


def test_in_words() -> None:
    assert more_seeds([0.5], 1) == more_trials([1.0, 2.0], [3.0, 4.0], 1) == TWO_FIRST
    # three pairs of each of three seeds, 13 pairs needed: two seeds more
    differences = [0.1, 0.4, -0.1, 0.3, 0.2, -0.05, 0.35, 0.0, 0.25]
    assert pairs_needed(differences) == 13
    assert more_seeds(differences, 3).startswith("about 2 more seeds, if")
    assert more_seeds([1e-6, -1.0, 1.0], 3) == "more than 1000 pairs: there is hardly a difference"
    assert more_seeds([0.2, 0.2], 2).startswith("more than")  # no noise: the test was clear

"""How many more trials would tell a difference from noise, if it is what it seems so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev, variance

ALPHA = 0.05
"""A difference with a larger p-value counts as noise."""

POWER = 0.8
"""The chance of finding a difference that an estimate is made for (Cohen 1988)."""

MOST = 1000
"""An estimate beyond this says that there is hardly a difference."""

TWO_FIRST = "two seeds first, to know the noise"
"""What is needed where there is one."""


def pairs_needed(differences: Sequence[float], alpha: float = ALPHA) -> int | None:
    """Pairs with which a paired, two-sided t-test would find their mean difference.

    The power is that of the noncentral t-distribution (statsmodels' ``TTestPower``) at the effect
    size mean / standard deviation of the differences. Taken from few pairs it is a rough estimate.

    Args:
        differences: of the pairs so far, at least two.
        alpha: level of the test.

    Returns:
        ``None`` where more than `MOST` would be needed, or there is no noise to reckon with.
    """
    from statsmodels.stats.power import TTestPower

    if len(differences) < 2 or not (noise := stdev(differences)):
        return None
    effect, test = abs(fmean(differences)) / noise, TTestPower()
    return _least(lambda n: float(test.power(effect, n, alpha)))


def trials_needed(one: Sequence[float], other: Sequence[float], alpha: float = ALPHA) -> int | None:
    """Trials of each of two values with which Welch's t-test would find their difference.

    As `pairs_needed`, by ``TTestIndPower`` of equal groups at Cohen's d with the root mean square
    of both standard deviations.
    """
    from statsmodels.stats.power import TTestIndPower

    if min(len(one), len(other)) < 2:
        return None
    noise = math.sqrt((variance(one) + variance(other)) / 2)
    if not noise:
        return None
    effect, test = abs(fmean(one) - fmean(other)) / noise, TTestIndPower()
    return _least(lambda n: float(test.power(effect, n, alpha)))


def _least(power: Callable[[int], float]) -> int | None:
    """The smallest number, from 2 on, at which a power that grows with it reaches `POWER`."""
    high = 2
    while not power(high) >= POWER:
        if high >= MOST:
            return None
        high = min(2 * high, MOST)
    low = 2
    while low < high:
        middle = (low + high) // 2
        if power(middle) >= POWER:
            high = middle
        else:
            low = middle + 1
    return high


def more_seeds(differences: Sequence[float], seeds: int, alpha: float = ALPHA) -> str:
    """In words, how many more seeds would be needed for `pairs_needed`.

    Args:
        differences: of all pairs; every seed gives as many.
        seeds: that there are; with one nothing is estimated.
        alpha: level of the test.
    """
    if seeds < 2:
        return TWO_FIRST
    needed = pairs_needed(differences, alpha)
    if needed is None:
        return f"more than {MOST} pairs: there is hardly a difference"
    more = max(1, math.ceil(needed * seeds / len(differences)) - seeds)
    return f"about {more} more seed{'' if more == 1 else 's'}, if the difference is what it seems"


def more_trials(
    one: Sequence[float], other: Sequence[float], seeds: int, alpha: float = ALPHA
) -> str:
    """The same for two values whose trials are no pairs."""
    if seeds < 2:
        return TWO_FIRST
    needed = trials_needed(one, other, alpha)
    if needed is None:
        return f"more than {MOST} trials of each: there is hardly a difference"
    least = min(len(one), len(other))
    more = max(1, math.ceil(needed * seeds / least) - seeds)
    return f"about {more} more seed{'' if more == 1 else 's'}, if the difference is what it seems"

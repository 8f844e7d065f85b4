"""Intervals against SciPy's bootstrap and against what is known of the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from phasewise.analysis.bootstrap import CHUNK, Interval, intervals, over_runs, resample
from phasewise.analysis.items import Floats, Items, mean


def of_means(values: Floats) -> Items:
    rows = np.arange(len(values))
    return Items("images", rows, {"x": values}, lambda weights: {"x": mean(weights, values)})


def test_percentile_intervals_of_a_mean_as_scipy_has_them() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ours = intervals(resample(of_means(values), resamples=20_000, seed=1), 0.9)["x"]
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=2
    ).confidence_interval
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.03 * width


def test_the_true_mean_is_within_as_often_as_it_should() -> None:
    generator, hits = np.random.default_rng(3), 0
    for trial in range(200):
        values = generator.normal(size=100)
        low, high = intervals(resample(of_means(values), resamples=300, seed=trial), 0.8)["x"]
        hits += low <= 0 <= high
    assert 0.7 < hits / 200 < 0.88


def test_the_seed_decides_and_chunks_do_not() -> None:
    items = of_means(np.random.default_rng(0).normal(size=30))
    one, same, other = (
        intervals(resample(items, resamples=CHUNK + 7, seed=seed), 0.95)["x"] for seed in (0, 0, 1)
    )
    assert one == same != other


def test_undefined_resamples_do_not_count() -> None:
    """One item of ten has a value: a third of the resamples lack it."""
    values = np.full(10, np.nan)
    values[3] = 0.5
    assert intervals(resample(of_means(values), resamples=200, seed=0), 0.95)["x"] == (0.5, 0.5)
    never = of_means(np.full(10, np.nan))
    assert intervals(resample(never, resamples=50, seed=0), 0.95) == {}


@pytest.mark.slow
def test_over_runs_and_items() -> None:
    """The variances of runs and of items add up where both are resampled."""
    generator = np.random.default_rng(0)
    items, shifts = generator.normal(size=400), generator.normal(scale=0.1, size=30)
    runs = [resample(of_means(items + shift), resamples=4000, seed=5) for shift in shifts]
    both = over_runs(runs, seed=1)["x"]
    expected = np.sqrt(items.var() / len(items) + shifts.var() / len(shifts))
    assert abs(both.std() / expected - 1) < 0.05
    assert abs(both.mean() - items.mean() - shifts.mean()) < 0.01
    np.testing.assert_array_equal(over_runs(runs[:1])["x"], runs[0]["x"])


def test_over_runs_a_figure_that_one_lacks_is_left_out() -> None:
    ones = np.ones(20)
    found = over_runs([{"x": ones, "y": ones}, {"x": 2 * ones}])
    assert set(found) == {"x"}
    assert set(found["x"]) <= {1.0, 1.5, 2.0}
    assert intervals(found, 0.9)["x"] == Interval(1.0, 2.0)

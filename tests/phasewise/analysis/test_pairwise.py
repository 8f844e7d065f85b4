"""Values of a key against each other, against scipy and plain formulas."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.pairwise import (
    cliffs_delta,
    correction,
    hedges_g,
    paired_delta,
    paired_g,
    pairwise,
)
from tests.phasewise.study.synthetic import read_grid

LR, BATCH, NET = "optimizer.lr", "data.batch_size", "model.architecture"


def test_every_two_values_against_scipy(tmp_path: Path) -> None:
    frame = trial_frame(read_grid(tmp_path, seeds=[0, 1]))
    found = pairwise(frame, NET, [LR, BATCH])
    assert found.table is not None and found.note == ""
    wide = frame.pivot_table(index=[LR, BATCH, "seed"], columns=NET, values="value")
    raw = []
    for row in found.table.to_dict("records"):
        a, b = wide[row["a"]], wide[row["b"]]
        raw.append(stats.ttest_rel(a, b).pvalue)
        assert row["n"] == 18 and row["paired"]
        assert row["difference"] == pytest.approx((a - b).mean())
        assert row["p"] == pytest.approx(raw[-1])
        assert row["delta"] == pytest.approx((a > b).mean() - (a < b).mean())
        j = 1 - 3 / (4 * 17 - 1)  # Hedges' approximation of his factor
        assert row["g"] == pytest.approx(j * (a - b).mean() / (a - b).std(), rel=1e-3)
    assert found.table["p_holm"].tolist() == pytest.approx(multipletests(raw, method="holm")[1])
    assert list(zip(found.table["a"], found.table["b"], strict=True)) == [
        ("unet", "attention_unet"),
        ("unet", "attention_resunet"),
        ("attention_unet", "attention_resunet"),
    ]


def test_a_sample_without_pairs_is_compared_by_welch(tmp_path: Path) -> None:
    frame = trial_frame(read_grid(tmp_path))
    small = frame[(frame[LR] == 1e-4) & (frame[BATCH] == 8)]
    large = frame[(frame[LR] == 1e-3) & (frame[BATCH] != 8)]
    found = pairwise(frame.loc[[*small.index, *large.index]], LR, [BATCH, NET], is_sample=True)
    assert found.table is not None and "Welch" in found.note
    (row,) = found.table.to_dict("records")
    a, b = small["value"], large["value"]
    assert row["p"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    statistic = stats.mannwhitneyu(a, b).statistic
    assert row["delta"] == pytest.approx(2 * statistic / (len(a) * len(b)) - 1)
    assert (row["n"], row["paired"]) == (3, False)


def test_where_nothing_can_be_compared(tmp_path: Path) -> None:
    frame = trial_frame(read_grid(tmp_path))
    one = frame[(frame[BATCH] == 8) & (frame[NET] == "unet")]
    assert pairwise(one, LR, [BATCH, NET]).note == "no two values have two common seeds or settings"
    assert "fewer than two" in pairwise(one, BATCH, [LR, NET]).note


def test_effect_sizes_by_hand() -> None:
    one, other = [3.0, 4.0, 5.0, 8.0], [1.0, 2.0, 4.0]
    pooled = math.sqrt((3 * stdev(one) ** 2 + 2 * stdev(other) ** 2) / 5)
    assert hedges_g(one, other) == pytest.approx(
        (1 - 3 / 19) * (fmean(one) - fmean(other)) / pooled, rel=2e-3
    )
    # 11 of 12 comparisons are larger or tied: 10 larger, 1 tied, 1 smaller
    assert cliffs_delta(one, other) == pytest.approx((10 - 1) / 12)
    assert cliffs_delta(other, one) == -cliffs_delta(one, other)
    assert paired_delta([0.1, 0.0, -0.2, 0.3]) == pytest.approx(0.25)
    assert paired_g([1.0, 1.0, 1.0]) == math.inf and paired_g([0.0, 0.0, 0.0]) == 0
    assert math.isnan(paired_g([1.0, 2.0])) and math.isnan(hedges_g([1.0], other))


@pytest.mark.parametrize("df", [2, 5, 20])
def test_the_correction_is_the_expectation_of_a_chi_variable(df: int) -> None:
    """It makes g unbiased: E[1 / s] = 1 / (J sigma)."""
    inverse = stats.chi(df).expect(lambda x: math.sqrt(df) / x)
    assert correction(df) == pytest.approx(1 / inverse, rel=1e-6)
    assert np.isnan(correction(1))

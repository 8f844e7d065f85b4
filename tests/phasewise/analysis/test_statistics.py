from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from phasewise.analysis.statistics.effects import anova, marginal_means, phase_effects
from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.importance import importance
from phasewise.analysis.statistics.intervals import (
    candidate_frame,
    compare_with,
    correlation,
    holm,
    paired_p,
    t_interval,
)
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, grid_score, read_grid

TOOTH_GROWTH = {
    ("VC", 0.5): [4.2, 11.5, 7.3, 5.8, 6.4, 10, 11.2, 11.2, 5.2, 7],
    ("VC", 1.0): [16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8, 15.5],
    ("VC", 2.0): [23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5],
    ("OJ", 0.5): [15.2, 21.5, 17.6, 9.7, 14.5, 10, 8.2, 9.4, 16.5, 9.7],
    ("OJ", 1.0): [19.7, 23.3, 23.6, 26.4, 20, 25.2, 25.8, 21.2, 14.5, 27.3],
    ("OJ", 2.0): [25.5, 26.4, 22.4, 24.5, 24.8, 30.9, 26.4, 27.3, 29.4, 23.0],
}
"""Crampton (1947), as R's ``ToothGrowth``: teeth by supplement and dose."""


@pytest.fixture
def clean(tmp_path: Path) -> StudyResult:
    Synthetic(test=True).write(tmp_path)
    return read_study(tmp_path)


# candidates


def test_candidates_against_plain_python(clean: StudyResult) -> None:
    phase = clean.phases[1]
    table = candidate_frame(phase)
    values = [[*one.values.values()] for one in phase.candidates]
    assert table["mean"].tolist() == pytest.approx([fmean(v) for v in values])
    assert table["std"].tolist() == pytest.approx([stdev(v) for v in values])
    before = fmean(values[0])
    assert table["difference"].tolist() == pytest.approx([fmean(v) - before for v in values])
    assert table["percent"].tolist() == pytest.approx(
        [100 * (fmean(v) - before) / before for v in values]
    )
    assert table["incumbent"].tolist() == [True, False, False]
    assert table["winner"].tolist() == [False, True, False]
    assert table["best"].tolist() == [max(v) for v in values]
    half = 4.302652729911275 * stdev(values[1]) / math.sqrt(3)  # t of 2 degrees of freedom
    assert table.loc[1, "low"] == pytest.approx(fmean(values[1]) - half)
    assert table.loc[1, "high"] == pytest.approx(fmean(values[1]) + half)


def test_candidates_without_results_or_incumbent(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        return "failed" if settings["optimizer.lr"] == 1e-4 or seed else 0.5

    Synthetic(phases={"": CLEAN["lr"]}, score=score, defaults={}).write(tmp_path)
    table = candidate_frame(read_study(tmp_path).phases[0])
    assert table["n"].tolist() == [0, 1, 1] and table["planned"].tolist() == [3, 3, 3]
    assert table[["std", "low", "difference", "percent"]].isna().all(axis=None)
    assert math.isnan(table.loc[0, "mean"]) and table.loc[1, "mean"] == 0.5


def test_minimised_objectives_have_their_smallest_value_as_best(tmp_path: Path) -> None:
    Synthetic(phases={"": CLEAN["lr"]}, metric="val/loss", mode="min").write(tmp_path)
    phase = read_study(tmp_path).phases[0]
    table = candidate_frame(phase)
    assert table["best"].tolist() == [min(one.values.values()) for one in phase.candidates]
    assert phase.plan.winner == 0


# intervals and tests


def test_intervals_of_few_values() -> None:
    assert all(map(math.isnan, t_interval([1.0])))
    assert t_interval([0.5, 0.5]) == (0.5, 0.5)
    low, high = t_interval([1.0, 2.0])  # t of 1 degree of freedom is Cauchy's
    half = math.tan(math.pi * 0.475) * 0.5
    assert (low, high) == pytest.approx((1.5 - half, 1.5 + half))


def test_paired_p_value_by_the_closed_form_of_three_pairs() -> None:
    differences = [0.01, 0.03, 0.02]
    t = fmean(differences) / (stdev(differences) / math.sqrt(3))
    upper = 0.5 - t / (2 * math.sqrt(2 + t * t))  # Student's t with 2 degrees of freedom
    assert paired_p(differences) == pytest.approx(2 * upper)
    assert paired_p([0.1, 0.1]) == 0.0
    assert paired_p([0.0, 0.0]) == 1.0
    assert math.isnan(paired_p([0.1]))


def test_holm_by_hand() -> None:
    # sorted: .01 x 4, .02 x 3, .03 x 2, .5 x 1, each at least the one before
    assert holm([0.02, 0.01, 0.5, 0.03]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    found = holm([0.02, math.nan, 0.01])
    assert found[[0, 2]] == pytest.approx([0.02, 0.02]) and math.isnan(found[1])


def test_holm_as_statsmodels_has_it() -> None:
    draw = np.random.default_rng(0)
    for count in (1, 2, 7, 30):
        p = draw.uniform(0, 0.2, count).round(2)  # with ties
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)
    assert holm([]).tolist() == []


def test_winner_against_all_others(tmp_path: Path) -> None:
    Synthetic(phases={"": CLEAN["lr"]}, seeds=range(6)).write(tmp_path)
    phase = read_study(tmp_path).phases[0]
    table = compare_with(phase, 1).table
    assert table is not None
    assert table["candidate"].tolist() == [0, 2] and table["pairs"].tolist() == [6, 6]
    for row, other in zip(table.itertuples(), (0, 2), strict=True):
        chosen, values = phase.candidates[1].values, phase.candidates[other].values
        differences = [chosen[seed] - values[seed] for seed in range(6)]
        assert row.difference == pytest.approx(fmean(differences))
        assert row.p == pytest.approx(paired_p(differences))
        assert row.p_wilcoxon == pytest.approx(2 / 2**6)  # all signs are the same
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]))
    assert table["p_wilcoxon_holm"].tolist() == pytest.approx([4 / 2**6] * 2)


def test_nothing_to_compare_with_one_seed(tmp_path: Path) -> None:
    phase = read_grid(tmp_path).phases[0]
    found = compare_with(phase, 0)
    assert found.table is None and "two common seeds" in found.note


def test_correlation_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, 10.0], [2.0, 1.0, 4.0, 3.0, 9.0]
    frame = pd.DataFrame({"x": [*x, math.nan], "y": [*y, 1.0]})
    table = correlation(frame, "x", "y").table
    assert table is not None

    def pearson(a: Sequence[float], b: Sequence[float]) -> float:
        am, bm = fmean(a), fmean(b)
        both = sum((i - am) * (j - bm) for i, j in zip(a, b, strict=True))
        return both / math.sqrt(sum((i - am) ** 2 for i in a) * sum((j - bm) ** 2 for j in b))

    r = pearson(x, y)
    assert table.loc["pearson", "r"] == pytest.approx(r)
    assert table.loc["spearman", "r"] == pytest.approx(pearson([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]))
    half = 1.959963984540054 / math.sqrt(5 - 3)
    expected = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    assert tuple(table.loc["pearson", ["low", "high"]]) == pytest.approx(expected)
    assert set(table["n"]) == {5}


def test_a_perfect_order_of_few_is_no_certainty() -> None:
    """Of 4! orders two are perfect: the exact test of ranks gives 1/12, a t-distribution 0."""
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 5.0, 6.0, 9.0]})
    table = correlation(frame, "x", "y").table
    assert table is not None and table.loc["spearman", "r"] == pytest.approx(1)

    def rank(y: Sequence[float]) -> float:
        return float(stats.spearmanr(frame["x"], y).statistic)

    exact = stats.permutation_test((frame["y"],), rank, permutation_type="pairings")
    assert table.loc["spearman", "p"] == pytest.approx(exact.pvalue) == pytest.approx(1 / 12)


def test_correlation_of_too_little() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 1.0, 1.0, 1.0]})
    assert correlation(frame, "x", "y").note == "y is always the same"
    assert "only 3 trials" in correlation(frame.head(3), "x", "y").note


# effects


def tooth_growth() -> pd.DataFrame:
    cells = [(supp, dose, y) for (supp, dose), ys in TOOTH_GROWTH.items() for y in ys]
    return pd.DataFrame(cells, columns=["supp", "dose", "value"])


def test_anova_of_a_published_example() -> None:
    """R: ``summary(aov(len ~ supp * factor(dose), ToothGrowth))``."""
    found = anova(tooth_growth(), ["supp", "dose"])
    table = found.table
    assert table is not None and found.note == ""
    assert table.index.tolist() == ["supp", "dose", "supp x dose", "Residual"]
    assert table["sum_sq"].tolist() == pytest.approx([205.4, 2426.4, 108.3, 712.1], abs=0.051)
    assert table["df"].tolist() == [1, 2, 2, 54]
    assert table["F"].tolist()[:3] == pytest.approx([15.572, 92.000, 4.107], abs=5e-4)
    assert table["p"].tolist()[:3] == pytest.approx([0.000231, 4.046291e-18, 0.0218603], rel=2e-3)
    # from R's sums: 205.35/(205.35+712.106) and (205.35 - 13.1872)/(3452.209+13.1872)
    assert table.loc["supp", "eta_sq_partial"] == pytest.approx(0.2238, abs=5e-4)
    assert table.loc["supp", "omega_sq"] == pytest.approx(0.05545, abs=5e-4)


DETECTION = {
    "low": [(90, 86), (96, 84), (100, 92), (92, 81)],
    "medium": [(102, 87), (106, 90), (105, 97), (96, 80)],
    "high": [(114, 93), (112, 91), (108, 95), (98, 83)],
}
"""Montgomery, Design and Analysis of Experiments, example 5.6: the intensity at which four
operators (blocks) detect a target, by ground clutter, with two filters."""


def test_anova_with_seeds_as_blocks_of_a_published_example() -> None:
    rows = [
        {"clutter": clutter, "filter": kind, "seed": operator, "value": value}
        for clutter, pairs in DETECTION.items()
        for operator, pair in enumerate(pairs)
        for kind, value in enumerate(pair)
    ]
    frame = pd.DataFrame(rows)
    found = anova(frame, ["clutter", "filter"])
    table = found.table
    assert table is not None and "seeds as blocks" in found.method
    block = table.loc["seed (block)"]
    assert (block["sum_sq"], block["df"]) == (pytest.approx(402.17, abs=0.005), 3)
    terms = table.loc[["clutter", "filter", "clutter x filter", "Residual"]]
    assert terms["sum_sq"].tolist() == pytest.approx([335.58, 1066.67, 77.08, 166.33], abs=0.005)
    assert terms["df"].tolist() == [2, 1, 2, 15]
    assert terms["F"].tolist()[:3] == pytest.approx([15.13, 96.19, 3.48], abs=0.005)
    # what the operators have in common stays in the error where nobody tells who was who
    alone = anova(frame.drop(columns="seed"), ["clutter", "filter"]).table
    assert alone is not None
    assert alone.loc["Residual", "sum_sq"] == pytest.approx(402.17 + 166.33, abs=0.01)


def test_anova_without_shared_seeds_has_no_blocks() -> None:
    frame = tooth_growth()
    frame["seed"] = range(len(frame))
    found = anova(frame, ["supp", "dose"])
    assert found.table is not None and "blocks" not in found.method
    assert found.table.loc["Residual", "df"] == 54


def test_the_best_value_on_average_and_in_the_best_configuration(tmp_path: Path) -> None:
    """Dropout is good on average, and bad where the batch is large."""

    def score(settings: Settings, seed: int) -> float:
        large, drops = settings["data.batch_size"] == 32, settings["model.dropout_rate"] > 0
        return {(0, 0): 0.1, (0, 1): 0.4, (1, 0): 0.5, (1, 1): 0.45}[large, drops] + 0.001 * seed

    words = {"": "data.batch_size=8,32 model.dropout_rate=0,0.5"}
    study = read_grid(tmp_path, score, phases=words, seeds=[0, 1])
    effects = phase_effects(study).set_index("key")
    dropout = effects.loc["model.dropout_rate"]
    assert (dropout["best"], dropout["in_best"]) == (0.5, 0)
    assert tuple(effects.loc["data.batch_size", ["best", "in_best"]]) == (32, 32)
    winner = study.phases[0].candidates[study.phases[0].plan.winner]
    assert winner.settings["model.dropout_rate"] == dropout["in_best"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_gain_of_a_key_is_its_own(tmp_path: Path, mode: str) -> None:
    """Two keys of a grid, of which one does nothing for the score."""
    sign = 1 if mode == "max" else -1

    def score(settings: Settings, seed: int) -> float:
        rate = {1e-4: 0.2, 1e-3: 0.5, 1e-2: 0.6}[settings["optimizer.lr"]]
        drops = 0.03 * (settings["model.dropout_rate"] == 0.5) * (settings["optimizer.lr"] == 1e-2)
        return sign * (rate + drops + 0.001 * seed)

    words = {"": "optimizer.lr=1e-4,1e-3,1e-2 model.dropout_rate=0,0.5"}
    defaults = {"optimizer.lr": 1e-3, "model.dropout_rate": 0}
    study = read_grid(tmp_path, score, phases=words, seeds=[0, 1], defaults=defaults, mode=mode)
    assert study.phases[0].plan.incumbent is not None
    gain = phase_effects(study).set_index("key")["gain"]
    assert gain["optimizer.lr"] == pytest.approx(0.1 + 0.03 / 2)
    assert gain["model.dropout_rate"] == pytest.approx(0.03 / 3)


def test_an_incumbent_outside_of_the_grid_is_beside_no_trial_that_differs_in_one_key(
    tmp_path: Path,
) -> None:
    words = {"first": "optimizer.lr=1e-3,1e-2", "": "data.batch_size=8,16 model.dropout_rate=0,0.5"}
    defaults = {"optimizer.lr": 1e-3, "data.batch_size": 4, "model.dropout_rate": 0.1}

    def score(settings: Settings, seed: int) -> float:
        return settings.get("data.batch_size", 4) / 100

    study = read_grid(tmp_path, score, phases=words, seeds=[0], defaults=defaults)
    gain = phase_effects(study).set_index("key")["gain"]
    assert gain[["data.batch_size", "model.dropout_rate"]].isna().all()


def test_anova_of_unbalanced_data_is_of_type_two() -> None:
    """Sums of squares as differences of nested least-squares fits."""
    data = tooth_growth().drop(index=[0, 1, 2, 11, 37, 55, 56])

    def ssr(*terms: Sequence[object]) -> float:
        columns = [np.ones(len(data))]
        for term in terms:
            columns += [
                np.array([v == level for v in term], float) for level in dict.fromkeys(term)
            ]
        design = np.stack(columns, 1)
        fit = design @ np.linalg.lstsq(design, data["value"], rcond=None)[0]
        return float(((data["value"] - fit) ** 2).sum())

    supp, dose = list(data["supp"]), list(data["dose"])
    cells = list(zip(supp, dose, strict=True))
    expected = [
        ssr(dose) - ssr(supp, dose),
        ssr(supp) - ssr(supp, dose),
        ssr(supp, dose) - ssr(cells),
        ssr(cells),
    ]
    table = anova(data, ["supp", "dose"]).table
    assert table is not None
    assert table["sum_sq"].tolist() == pytest.approx(expected)


def test_anova_of_a_grid_without_repeats(tmp_path: Path) -> None:
    study = read_grid(tmp_path)
    keys = study.phases[0].keys
    found = anova(trial_frame(study), keys)
    assert found.table is not None and found.note == ""
    assert found.table.loc["Residual", "df"] == 8
    assert found.table["p"].idxmin() == "optimizer.lr"
    assert found.table.loc["optimizer.lr x data.batch_size", "p"] > 0.01


def test_anova_leaves_interactions_out_where_trials_do_not_suffice(tmp_path: Path) -> None:
    words = {"": "optimizer.lr=1e-4,5e-4,1e-3 data.batch_size=8,16,32 model.architecture=unet"}
    study = read_grid(tmp_path, phases=words, seeds=[0, 1])
    frame = trial_frame(study)
    keys = ["optimizer.lr", "data.batch_size"]
    assert anova(frame, keys).note == ""
    one = frame[frame["seed"] == 0].iloc[:-1]  # an empty cell, 3 degrees of freedom
    assert anova(one, keys).table is None
    more = frame.iloc[:-2]  # both seeds of a cell are missing
    found = anova(more, keys)
    assert found.table is not None and "without interactions" in found.note
    assert found.table.index.tolist() == ["seed (block)", *keys, "Residual"]


def test_anova_says_why_it_does_not_apply(clean: StudyResult, tmp_path: Path) -> None:
    frame = trial_frame(clean)
    assert "fewer than two keys" in anova(frame[frame["phase"] == 0], ["optimizer.lr"]).note
    flat = tooth_growth().assign(value=0.5)
    assert anova(flat, ["supp", "dose"]).note == "value is always the same"
    exact = tooth_growth()
    exact["value"] = exact["dose"] + (exact["supp"] == "VC")
    assert anova(exact, ["supp", "dose"]).table is None  # no error to compare with


def test_names_of_keys_are_no_code() -> None:
    frame = tooth_growth().rename(columns={"supp": "__import__('os')", "dose": "a:b ~ c"})
    table = anova(frame, ["__import__('os')", "a:b ~ c"]).table
    assert table is not None and table.index[0] == "__import__('os')"


def test_marginal_means_by_hand(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        return "diverged" if settings["optimizer.lr"] == 5e-4 else grid_score(settings, seed)

    study = read_grid(tmp_path, score)
    frame = trial_frame(study)
    table = marginal_means(frame, "optimizer.lr", "max")
    assert table.index.tolist() == [1e-4, 5e-4, 1e-3]
    assert table["count"].tolist() == [9, 0, 9]
    for value in (1e-4, 1e-3):
        own = [
            one.trials[0].value
            for one in study.phases[0].candidates
            if one.settings["optimizer.lr"] == value
        ]
        assert table.loc[value, "mean"] == pytest.approx(fmean(own))
        assert table.loc[value, "std"] == pytest.approx(stdev(own))
        assert table.loc[value, "best"] == max(own)
    assert marginal_means(frame, "optimizer.lr", "min").loc[1e-3, "best"] == min(own)


def test_effects_within_phases(clean: StudyResult) -> None:
    table = phase_effects(clean).set_index("key")
    assert table.index.tolist() == ["optimizer.lr", "model.activation"]
    lr, activation = ([fmean(c.values.values()) for c in p.candidates] for p in clean.phases[:2])
    assert table.loc["optimizer.lr", "range"] == pytest.approx(max(lr) - min(lr))
    assert table.loc["optimizer.lr", "gain"] == 0
    assert table.loc["model.activation", "gain"] == pytest.approx(activation[1] - activation[0])
    assert table.loc["model.activation", "best"] == "gelu"


# importance


def test_importance_of_an_additive_grid_is_its_share_of_variance(tmp_path: Path) -> None:
    effects: dict[str, Callable[[Any], float]] = {
        "optimizer.lr": lambda v: {1e-4: 0.1, 5e-4: 0.3, 1e-3: 0.5}[v],
        "data.batch_size": lambda v: {8: 0.1, 16: 0.2, 32: 0.25}[v],
        "model.architecture": lambda v: 0.0,
    }
    study = read_grid(tmp_path, lambda s, _: sum(f(s[key]) for key, f in effects.items()))
    found = importance(study)
    assert found.table is not None and found.note == ""
    shares = found.table["importance"]
    assert shares.index.tolist() == list(effects) and sum(shares) == pytest.approx(1)
    lr, batch = np.var([0.1, 0.3, 0.5]), np.var([0.1, 0.2, 0.25])
    assert shares["optimizer.lr"] == pytest.approx(lr / (lr + batch), abs=0.03)
    assert shares["model.architecture"] < 0.01


def test_importance_over_phases_that_do_not_cross(tmp_path: Path) -> None:
    phases = CLEAN | {"batch": "data.batch_size=8,16,32,64"}
    defaults = {"optimizer.lr": 1e-3, "model.activation": "relu", "data.batch_size": 16}
    Synthetic(phases=phases, defaults=defaults).write(tmp_path)
    found = importance(read_study(tmp_path))
    assert found.table is not None and "never crossed" in found.note
    assert found.table.index[0] == "optimizer.lr" and found.table.index[-1] == "data.batch_size"


def test_importance_of_keys_that_one_phase_crosses(tmp_path: Path) -> None:
    phases = {"grid": "optimizer.lr=1e-4,1e-3,1e-2 model.activation=relu,gelu,leaky_relu"}
    Synthetic(phases=phases | {"more": "optimizer.lr=1e-4,1e-2"}).write(tmp_path)
    found = importance(read_study(tmp_path))
    assert found.table is not None and not found.note


def test_importance_of_a_continuous_key(tmp_path: Path) -> None:
    values = ",".join(f"{10 ** (-4 + number / 10):.3e}" for number in range(20))

    def score(settings: Settings, seed: int) -> float:
        return 0.5 - 0.1 * abs(math.log10(settings["optimizer.lr"]) + 3)

    words = {"": f"optimizer.lr={values} model.activation=relu,gelu"}
    table = importance(read_grid(tmp_path, score, phases=words)).table
    assert table is not None and table.loc["optimizer.lr", "importance"] > 0.95


def test_importance_says_why_it_does_not_apply(clean: StudyResult, tmp_path: Path) -> None:
    assert "5 configurations with results; 8 are needed" in importance(clean).note
    assert importance(read_grid(tmp_path / "flat", lambda *_: 0.5)).table is None

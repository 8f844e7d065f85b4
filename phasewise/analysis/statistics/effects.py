"""What each key does to the objective: marginal means and analysis of variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from phasewise.analysis.statistics.frame import in_order, trial_frame
from phasewise.analysis.statistics.intervals import Analysis
from phasewise.analysis.statistics.pairs import pair_differences
from phasewise.study.results import CandidateResult, PhaseResult, StudyResult
from phasewise.study.selection import select

LEAST_RESIDUAL = 5
"""Degrees of freedom that an analysis of variance must leave to the error. With fewer, F must be
beyond 6.6 even for a single contrast at the 5 % level, and a test finds hardly anything."""

ROUNDING = 1e-12
"""Shares of a sum of squares that are rounding errors."""

BLOCK = "seed (block)"
"""The term of an analysis of variance that takes what seeds have in common out of the error."""


def marginal_means(
    frame: pd.DataFrame, key: str, mode: str, measure: str = "value"
) -> pd.DataFrame:
    """``mean``, ``std`` (n - 1), ``best`` and ``count`` of a measure for each value of a key.

    Every trial counts once, whatever its other settings: in a full grid these are averages over
    the same other settings for each value, else they may not be.

    Args:
        frame: rows of `trial_frame`, of one phase as a rule.
        key: a swept key; its values are the index, numbers in order.
        mode: ``max`` or ``min``: which value is the best.
        measure: a column. Values without a finished trial have a count of 0.
    """
    groups = frame.groupby(key, sort=False)[measure]
    table = groups.agg(["mean", "std", "max" if mode == "max" else "min", "count"])
    table.columns = ["mean", "std", "best", "count"]
    return table.loc[in_order(list(table.index))]


def fair_rows(frame: pd.DataFrame, phase: PhaseResult, key: str) -> pd.DataFrame:
    """The trials of a phase that values of a key are compared by: where keys were varied one at a
    time (`PhaseResult.centre`), those that have the centre's values of all others; else all."""
    if phase.centre is not None:
        for other in phase.own_keys:
            if other != key:
                frame = frame[frame[other].isin([phase.setting(phase.centre, other)])]
    return frame


def anova(frame: pd.DataFrame, keys: Sequence[str], measure: str = "value") -> Analysis:
    """Analysis of variance of a grid with type II sums of squares (statsmodels).

    Interactions of two keys are included if they leave `LEAST_RESIDUAL` degrees of freedom and all
    their cells have results. Seeds that the configurations share are blocks (a randomized block
    design), as they are pairs in `phasewise.analysis.statistics.intervals.compare_with`: what
    a seed does to all of them is the term `BLOCK` and no error. The table has a row per term
    (``a``, ``a x b``, ``Residual``) and the columns ``sum_sq``, ``df``, ``F``, ``p``,
    ``eta_sq_partial`` (SS / (SS + SS_residual)) and ``omega_sq`` ((SS - df MS_residual) /
    (SS_total + MS_residual), Hays 1963; it can be negative where an effect is smaller than noise).

    Args:
        frame: rows of `trial_frame`, of one phase; without a column ``seed`` there are no blocks.
        keys: the swept keys, at least two.
        measure: a column.
    """
    method = "analysis of variance, type II"
    data = frame.dropna(subset=[measure])
    varying = [key for key in keys if data[key].nunique() > 1]
    if len(varying) < 2:
        return Analysis(method, None, "fewer than two keys have two values with results")
    if data[measure].nunique() < 2:
        return Analysis(method, None, f"{measure} is always the same")
    # names without dots and quotes, which a formula would read as code
    names = {key: f"k{number}" for number, key in enumerate(varying)}
    plain = data[varying].astype(str).rename(columns=names).assign(y=data[measure])
    block = ""
    if _are_blocks(data, varying):
        method += ", seeds as blocks"
        plain["block"], names[BLOCK], block = data["seed"].astype(str), "block", "block + "
    terms = " + ".join(names[key] for key in varying)
    note = ""
    model = _fit(plain, f"y ~ {block}({terms}) ** 2")
    if model is None:
        note = "without interactions: the trials do not suffice for them"
        model = _fit(plain, f"y ~ {block}{terms}")
    if model is None:
        reason = f"fewer than {LEAST_RESIDUAL} degrees of freedom are left, or settings coincide"
        return Analysis(method, None, reason)
    return Analysis(method, _effect_sizes(model, {v: k for k, v in names.items()}), note)


def _are_blocks(data: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Whether there are several seeds, each of which several configurations share."""
    if "seed" not in data or data["seed"].nunique() < 2:
        return False
    cells = data[list(keys)].astype(str).agg(tuple, axis=1)
    return bool(cells.groupby(data["seed"]).nunique().min() > 1)


def _fit(data: pd.DataFrame, formula: str) -> Any:
    """The linear model; ``None`` if the data do not determine it."""
    import numpy as np
    from statsmodels.regression.linear_model import OLS

    model = OLS.from_formula(formula, data)
    if np.linalg.matrix_rank(model.exog) < model.exog.shape[1]:
        return None
    fitted = model.fit()
    exact = fitted.ssr <= ROUNDING * fitted.centered_tss  # F would be a ratio of rounding errors
    return None if fitted.df_resid < LEAST_RESIDUAL or exact else fitted


def _effect_sizes(model: Any, keys: dict[str, str]) -> pd.DataFrame:
    from statsmodels.stats.anova import anova_lm

    table = anova_lm(model, typ=2).rename(columns={"PR(>F)": "p"})
    error = table.loc["Residual", "sum_sq"]
    mean_error = error / table.loc["Residual", "df"]
    effect = table.index != "Residual"
    table["eta_sq_partial"] = (table["sum_sq"] / (table["sum_sq"] + error)).where(effect)
    excess = table["sum_sq"] - table["df"] * mean_error
    excess = excess.where(excess.abs() > ROUNDING * model.centered_tss, 0.0)
    table["omega_sq"] = (excess / (model.centered_tss + mean_error)).where(effect)
    terms = (str(name).split(":") for name in table.index)
    table.index = [" x ".join(keys.get(part, part) for part in term) for term in terms]
    return table


def phase_effects(study: StudyResult) -> pd.DataFrame:
    """What each key did within each phase, one row for both; largest range first.

    Phases that follow each other never cross their keys, so a range is one at the winners of the
    phases before. Columns: ``phase`` (name), ``key``, ``tied`` (keys that it decides, whose effect
    is in its own), ``values`` (with results), ``best`` (value
    with the best marginal mean, an average over the other keys), ``in_best`` (value in the best
    configuration, at its best other settings: another one where keys interact), ``range`` (best
    less worst marginal mean, always positive) and ``gain`` (of ``best`` over the incumbent's value
    of this key: the mean difference of trials that differ in nothing else, which in a full grid is
    that of the marginal means; positive is better; NaN without an incumbent or such trials).
    """
    frame = trial_frame(study)
    rows: list[dict[str, Any]] = []
    for number, phase in enumerate(study.phases):
        if phase.plan.kind not in ("grid", "combinations"):
            continue
        mode = phase.plan.objective["mode"]
        own = frame[frame["phase"] == number]
        top = _best_configuration(phase)
        for key in phase.own_keys:
            means = marginal_means(fair_rows(own, phase, key), key, mode)["mean"].dropna()
            if len(means) > 1:
                tied = ", ".join(k for k, other in phase.tied.items() if other == key)
                row = {"phase": phase.plan.name, "key": key, "tied": tied, "values": len(means)}
                best = means.idxmax() if mode == "max" else means.idxmin()
                chosen = best if top is None else phase.setting(top, key)
                spread = {"in_best": chosen, "range": means.max() - means.min()}
                rows.append(row | {"best": best} | spread | {"gain": _gain(phase, own, key, best)})
    columns = ["phase", "key", "tied", "values", "best", "in_best", "range", "gain"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("range", ascending=False, ignore_index=True)


def _best_configuration(phase: PhaseResult) -> CandidateResult | None:
    """The one that is adopted, unless only significant gains are."""
    plan = phase.plan
    values = [candidate.values for candidate in phase.candidates]
    mode = plan.objective["mode"]
    row = select(values, plan.incumbent, mode=mode, seeds=plan.seeds).winner
    return None if row is None else phase.candidates[row]


def _gain(phase: PhaseResult, own: pd.DataFrame, key: str, best: Any) -> float:
    if phase.plan.incumbent is None:
        return math.nan
    before = phase.setting(phase.candidates[phase.plan.incumbent], key)
    if before == best:
        return 0.0
    others = [name for name in phase.own_keys if name != key]
    differences = pair_differences(own.assign(y=own["value"]), key, others, best, before)
    sign = 1 if phase.plan.objective["mode"] == "max" else -1
    return sign * fmean(differences) if differences else math.nan

"""Which keys matter most, over a whole study."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from phasewise.analysis.statistics.frame import COMPARING, all_keys, is_number, trial_frame
from phasewise.analysis.statistics.intervals import Analysis
from phasewise.study.results import StudyResult

LEAST_CONFIGURATIONS = 8
"""A forest on fewer points mostly ranks noise."""

MANY_VALUES = 12
"""A number with more different values is continuous to the forest, else a category."""

TREES = 24
"""Of the forest; the shares are means over trees."""

MANY, DEPTH = 200, 6
"""Of more configurations than MANY, trees are cut at DEPTH: full ones take 17 s for 1,000, these
2 s, and the shares agree within .01."""


def importance(study: StudyResult) -> Analysis:
    """How much of the variance of the objective each key explains alone, over the whole study.

    Functional ANOVA (Hutter, Hoos and Leyton-Brown 2014) as Optuna has it: a random forest is
    fitted to the mean objective of each configuration, and the variance of its prediction is split
    by keys. The shares of the main effects are scaled to a sum of 1. Optuna 2, which
    hydra-optuna-sweeper demands, computes no functional ANOVA with today's NumPy; there the
    forest's mean decrease of impurity is used.

    Phases with an objective of their own are left out. The table has a row per key, the most
    important first, with the column ``importance``.
    """
    data, keys = _configurations(study)
    if len(data) < LEAST_CONFIGURATIONS or not keys:
        reason = f"{len(data)} configurations with results; {LEAST_CONFIGURATIONS} are needed"
        return Analysis("functional ANOVA", None, reason)
    if data["value"].nunique() < 2:
        return Analysis("functional ANOVA", None, "all configurations have the same result")
    shares, method = _forest_shares(data, keys)
    table = pd.DataFrame({"importance": shares}).sort_values("importance", ascending=False)
    phases = [phase for phase in study.phases if phase.plan.kind in COMPARING]
    crossed = any(p.plan.kind in ("grid", "search") and {*keys} <= {*p.keys} for p in phases)
    note = "keys of different phases were never crossed: their shares rest on the forest"
    return Analysis(method, table, note if len(phases) > 1 and not crossed else "")


def _configurations(study: StudyResult) -> tuple[pd.DataFrame, list[str]]:
    """One row per configuration with its mean ``value``, and the keys that vary among them."""
    frame, keys = trial_frame(study), all_keys(study)
    same = [
        number
        for number, phase in enumerate(study.phases)
        if phase.plan.kind in COMPARING and phase.plan.objective == study.plan.objective
    ]
    kept = frame[frame["phase"].isin(same)].drop_duplicates("trial").dropna(subset=["value"])
    data = kept.groupby(keys, as_index=False, sort=False)["value"].mean() if keys else kept
    return data, [key for key in keys if data[key].nunique() > 1]


def _forest_shares(data: pd.DataFrame, keys: Sequence[str]) -> tuple[dict[str, float], str]:
    import optuna
    from optuna import importance as methods

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = {key: f"k{number}" for number, key in enumerate(keys)}
    spaces, columns = _spaces(data, names)
    study = optuna.create_study()
    with warnings.catch_warnings(action="ignore"):  # in Optuna 2, adding trials is experimental
        for row, value in enumerate(data["value"]):
            params = {name: column[row] for name, column in columns.items()}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=spaces, value=float(value))
            )
    evaluator: Any
    if _is_recent(optuna.distributions):
        method = "functional ANOVA of a random forest (Optuna)"
        depth = {"max_depth": DEPTH} if len(data) > MANY else {}
        evaluator = methods.FanovaImportanceEvaluator(n_trees=TREES, seed=0, **depth)
    else:
        method = "mean decrease of impurity in a random forest (Optuna 2)"
        evaluator = methods.MeanDecreaseImpurityImportanceEvaluator(n_trees=TREES, seed=0)
    shares = methods.get_param_importances(study, evaluator=evaluator, params=list(spaces))
    return {key: float(shares[name]) for key, name in names.items()}, method


def _spaces(
    data: pd.DataFrame, names: dict[str, str]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A distribution and the values of each key under its short name."""
    from optuna import distributions

    spaces: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for key, name in names.items():
        column = data[key]
        if all(map(is_number, column)) and column.nunique() > MANY_VALUES:
            logarithmic = column.min() > 0 and column.max() / column.min() >= 100
            columns[name] = [math.log10(v) if logarithmic else float(v) for v in column]
            recent = _is_recent(distributions)
            kind = distributions.FloatDistribution if recent else distributions.UniformDistribution
            spaces[name] = kind(min(columns[name]), max(columns[name]))
        else:
            columns[name] = [str(value) for value in column]
            spaces[name] = distributions.CategoricalDistribution(sorted(set(columns[name])))
    return spaces, columns


def _is_recent(distributions: Any) -> bool:
    """Whether Optuna is of version 3 or later."""
    return hasattr(distributions, "FloatDistribution")

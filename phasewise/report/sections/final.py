"""The final configuration on test data, beside the starting one and trivial predictors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from phasewise.analysis.bootstrap import intervals, over_runs
from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.intervals import CONFIDENCE, Interval, t_interval
from phasewise.cli.shell import relative_path, script, shell_command
from phasewise.records.baselines import BEFORE, rivals, trivial
from phasewise.records.record import RunRecord
from phasewise.report.comparable import differing_losses
from phasewise.report.content import Block, Column, Command, Figure, Picture, Section, Table, Text
from phasewise.report.figures.scatter import draw_intervals
from phasewise.report.figures.style import FAINT, PALETTE
from phasewise.report.sections.ensemble import NOTE as ENSEMBLE_NOTE
from phasewise.report.sections.ensemble import ensemble_figures
from phasewise.report.sections.trials import headline
from phasewise.report.text import listed
from phasewise.report.view import CandidateView, StudyView
from phasewise.study.job import FUNCTION

SPLIT_TITLES = {
    "test": "test data, looked at once",
    "val": "validation data, by which epochs and configurations were selected",
}
FINAL, START = "final configuration", "starting configuration"
MOST_PICTURES = 6
WITH_PHASES = ("best", "worst", "curves")
"""Pictures of validation data that the sections of phases show, or draw themselves."""

EVALUATION = "evaluation/{}/evaluation.json"
"""What ``evaluate.py`` leaves in the directory of a run, by split."""

SAME = 1e-6
"""How far its metrics may be from the record's; more, and it saw other data."""

RESAMPLES = "resamples.csv"
"""Beside it: the metrics in each resample of the items."""

NO_INTERVALS = (
    "There is one seed, so that nothing tells how much is luck. This computes intervals over the "
    "items, which the next report shows:"
)
SEEDS_ONLY = (
    "These intervals are for other seeds and the same items. With this, the next report also has "
    "those for other seeds and other items:"
)

FOLDS = "Each seed was judged by items of its own: these intervals are for other seeds and items."


def split_of(study: StudyView) -> str:
    """``test`` where the final configuration was tested, else ``val``."""
    final = study.final
    return "test" if final is not None and any(r.test for r in final.records) else "val"


def objective_on(study: StudyView, split: str) -> str:
    """The objective's name on a split."""
    return split + study.plan.objective["metric"].removeprefix("val")


def compared(study: StudyView) -> dict[str, CandidateView]:
    """The configurations that the summary compares."""
    found = {FINAL: study.final, START: study.start}
    if study.start is None and study.phases:
        found[START] = study.phases[0].incumbent
    return {name: one for name, one in found.items() if one is not None and one.records}


def scores(records: list[RunRecord], split: str) -> dict[str, list[float]]:
    """Each main metric of a split over completed runs; parts of a metric are left out."""
    found: dict[str, list[float]] = {}
    for record in records:
        values = (record.test or {}) if split == "test" else record.best
        for key, value in values.items():
            main = key.startswith(f"{split}/") and key.count("/") == 1
            if main and record.status == "completed" and is_number(value):
                found.setdefault(key, []).append(float(value))
    return found


def baselines(records: list[RunRecord], split: str) -> dict[str, dict[str, float]]:
    """Metrics of each trivial predictor on a split, mean over the runs."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name, values in record.baselines.items():
            for key, value in values.items():
                if key.startswith(f"{split}/") and is_number(value):
                    found.setdefault(name, {}).setdefault(key, []).append(float(value))
    return {name: {k: fmean(v) for k, v in values.items()} for name, values in found.items()}


def references(candidates: Mapping[str, CandidateView], split: str) -> dict[str, dict[str, float]]:
    """`baselines` of all runs. Networks before training may be different ones: that of the first
    configuration, the final one, is taken."""
    first, *others = candidates.values()
    records = [record for one in others for record in one.records]
    return trivial(baselines(records, split)) | baselines(first.records, split)


def reference_name(name: str) -> str:
    """What tables call a baseline."""
    return "before training" if name == BEFORE else f"trivial: {name}"


@dataclass(frozen=True)
class Score:
    """A metric of a configuration: over seeds, and where it lies with 95 % confidence."""

    mean: float
    std: float | None
    interval: Interval | None
    joint: Interval | None = None
    """Over seeds and items, where there are several seeds and `evaluate.py` has seen them all."""


def measured(one: CandidateView, split: str) -> dict[str, Score]:
    """Each main metric with its interval: over seeds if there are several, else over items."""
    found = {}
    values = scores(one.records, split)
    items = item_intervals(one, split)
    for key, numbers in values.items():
        mean, over_items = fmean(numbers), items.get(key)
        if len(numbers) > 1:
            std = float(np.std(numbers, ddof=1))
            found[key] = Score(mean, std, t_interval(numbers), over_items)
        else:
            found[key] = Score(mean, None, over_items)
    return found


def item_intervals(one: CandidateView, split: str) -> dict[str, Interval]:
    """What ``evaluate.py`` found by resampling the items, if it saw what the records tell; of
    several seeds over these too, see `phasewise.analysis.bootstrap.over_runs`."""
    done = _runs(one)
    try:
        found = [_evaluation(run, split) for run in done]
        if len(found) == 1:
            return {
                str(name): (float(value["low"]), float(value["high"]))
                for name, value in found[0]["figures"].items()
                if "low" in value
            }
        drawn = [(each["bootstrap"], each["data"]["split_hash"]) for each in found]
        if not found or any(other != drawn[0] for other in drawn):
            return {}
        places = [(run / EVALUATION.format(split)).with_name(RESAMPLES) for run in done]
        runs = [
            {name: column.to_numpy() for name, column in pd.read_csv(place).items()}
            for place in places
        ]
        return dict(intervals(over_runs(runs), CONFIDENCE))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # not evaluated, or not so


def _evaluation(directory: Path, split: str) -> dict[str, Any]:
    """Raises any of the above where there is none, or one of other data or another confidence."""
    content = json.loads((directory / EVALUATION.format(split)).read_text("utf-8"))
    if not 0 <= content["difference_from_record"] <= SAME:
        raise ValueError
    if content["bootstrap"]["confidence"] != CONFIDENCE:
        raise ValueError
    return dict(content)


def final_blocks(study: StudyView) -> list[Block]:
    """The table of scores with its intervals, and the objective drawn."""
    split = split_of(study)
    candidates = compared(study)
    known = {name: measured(one, split) for name, one in candidates.items()}
    known = {name: values for name, values in known.items() if values}
    if not known:
        return []
    name, figures = ensemble_figures(study) if split == "test" else ("", {})
    if figures:  # beside the networks that it is made of
        ensemble = {key: Score(value, None, items) for key, (value, items) in figures.items()}
        known = {FINAL: known.get(FINAL, {}), name: ensemble} | known
    beside = references(candidates, split)
    target = objective_on(study, split)
    found = {key for values in known.values() for key in values}
    shown = [*dict.fromkeys([*_first(candidates, split), *sorted(found)])]
    shown = [key for key in shown if key in found]
    goals = {target, *(one["metric"].replace("val", split, 1) for one in _objectives(study))}
    blocks: list[Block] = [_table(split, goals, shown, known, beside)]
    reason = differing_losses(study, [*candidates.values()])
    if reason and any("loss" in key for key in shown):
        blocks.append(Text(f"The losses of the configurations do not compare: {reason}.", "note"))
    if target in shown:
        blocks.append(_drawing(target, known, rivals(beside)))
    all_of = [score for values in known.values() for score in values.values()]
    blocks += [Text(ENSEMBLE_NOTE)] if figures else []
    trials = [trial for one in candidates.values() for trial in one.result.trials]
    # what evaluate.py can restore; not the networks of other applications
    own = not any(trial.record and FUNCTION in trial.record.environment for trial in trials)
    if own and not any(score.interval for score in all_of):
        blocks += [Text(NO_INTERVALS, "note"), _evaluating([study.result.directory], split)]
    elif own and any(score.std for score in all_of) and not any(score.joint for score in all_of):
        if any(_has_folds(one, split) for one in candidates.values()):
            return [*blocks, Text(FOLDS, "note")]
        blocks.append(Text(SEEDS_ONLY, "note"))
        blocks += [_evaluating(_runs(one), split) for one in candidates.values()]
    return blocks


def _first(candidates: Mapping[str, CandidateView], split: str) -> list[str]:
    """What a reader looks for first: the objective, the other headline metrics, the loss."""
    named = [name for one in candidates.values() for name in headline(one.phase)]
    own = [f"{split}/{name.partition('/')[2]}" for name in named]
    return [*own, f"{split}/loss"]


def _has_folds(one: CandidateView, split: str) -> bool:
    """Whether its runs were judged by other items, as those of cross-validation are."""
    known = [record.data.get("hashes") or {} for record in one.records]
    return len({hashes[split] for hashes in known if split in hashes}) > 1


def _runs(one: CandidateView) -> list[Path]:
    return [trial.directory for trial in one.result.trials if math.isfinite(trial.value)]


def _evaluating(runs: list[Path], split: str) -> Command:
    named = ",".join(map(relative_path, runs))  # the script takes paths as they are, commas and all
    checkpoint = f"checkpoint=[{named}]" if len(runs) > 1 else f"checkpoint={named}"
    return Command(shell_command(script("evaluate.py"), [checkpoint, f"split={split}"]))


def _objectives(study: StudyView) -> list[dict[str, str]]:
    """Where there are several."""
    return next((one.plan.objectives for one in study.phases if one.plan.objectives), [])


def _table(
    split: str,
    goals: set[str],
    keys: list[str],
    known: dict[str, dict[str, Score]],
    beside: dict[str, dict[str, float]],
) -> Table:
    all_of = [score for values in known.values() for score in values.values()]
    several = any(score.std is not None for score in all_of)
    certain = any(score.interval is not None for score in all_of)
    jointly = {k for k, v in known.items() if any(one.joint is not None for one in v.values())}
    columns = [Column("metric")]
    for name in known:
        columns.append(Column(name, "spread" if several else "number"))
        columns += [Column(f"{name}, 95 % CI", "interval")] if certain else []
        both = f"{name}, 95 % CI over seeds and items"
        columns += [Column(both, "interval")] if name in jointly else []
    columns += [Column(reference_name(name), "number") for name in beside]
    what = ""
    if several:
        what = "; mean ± std over seeds, confidence interval by Student's t"
        what += ", over seeds and items by bootstrap (evaluate.py)" if jointly else ""
    elif certain:
        what = "; confidence interval by bootstrap over the items (evaluate.py)"
    caption = f"Scores on {SPLIT_TITLES[split]}, beside trivial predictors on the same data{what}."
    caption += f" The {'objectives are' if len(goals) > 1 else 'objective is'} marked."
    table = Table("final", caption, columns)
    for key in keys:
        cells: list[object] = [key]
        for name, values in known.items():
            score = values.get(key, Score(math.nan, None, None))
            cells.append((score.mean, score.std) if several else score.mean)
            cells += [score.interval] if certain else []
            cells += [score.joint] if name in jointly else []
        cells += [means.get(key) for means in beside.values()]
        table.add(*cells, mark="best" if key in goals else "")
    return table


def _drawing(
    target: str, known: dict[str, dict[str, Score]], beside: dict[str, dict[str, float]]
) -> Figure:
    rows = [
        (name, values[target].mean, values[target].interval, colour)
        for (name, values), colour in zip(known.items(), PALETTE, strict=False)
        if target in values
    ]
    rows += [
        (reference_name(name), means[target], None, FAINT)
        for name, means in beside.items()
        if target in means
    ]
    names, middles, ends, colours = map(list, zip(*rows, strict=True))
    lines = "; lines: 95 % confidence intervals (of fractions as far as 0..1)"
    lines = lines if any(ends) else ""
    caption = f"{target}: {listed(names)}{lines}."
    draw = partial(draw_intervals, names, middles, ends, target, colours)
    return Figure("final", caption, draw)


def final_pictures(study: StudyView) -> Section | None:
    """What the final configuration predicts on test data, or without any on validation data."""
    trial = study.final.best_trial if study.final is not None else None
    if trial is None:
        return None
    folder, what = trial.directory / "figures", "test data"
    files = sorted(folder.glob("test_*.png"))
    if not files:
        what = "validation data"
        files = [path for path in sorted(folder.glob("*.png")) if path.stem not in WITH_PHASES]
    blocks: list[Block] = [
        Picture(
            f"final_{path.stem}",
            f"Final configuration: {path.stem.removeprefix('test_').replace('_', ' ')}, {what}.",
            path,
        )
        for path in files[:MOST_PICTURES]
    ]
    return Section("Predictions of the final configuration", blocks) if blocks else None

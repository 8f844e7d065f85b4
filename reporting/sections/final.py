"""The final configuration on test data, beside the starting one and trivial predictors."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from common.record import RunRecord
from reporting.content import Block, Column, Command, Figure, Picture, Section, Table, Text
from reporting.figures.scatter import intervals
from reporting.figures.style import FAINT, PALETTE
from reporting.view import Candidate, Study
from studies.statistics.frame import is_number
from studies.statistics.intervals import CONFIDENCE, Interval, t_interval

SPLITS = {"test": "test data, looked at once", "val": "validation data, which chose the best epoch"}
FINAL, START = "final configuration", "starting configuration"
MOST_PICTURES = 6

EVALUATION = "evaluation/{}/evaluation.json"
"""What ``evaluate.py`` leaves in the directory of a run, by split."""

SAME = 1e-6
"""How far its figures may be from the record's; more, and it saw other data."""

NO_INTERVALS = (
    "There is one seed, so that nothing tells how much is luck. This computes intervals over the "
    "items, which the next report shows:"
)


def split_of(study: Study) -> str:
    """``test`` where the final configuration was tested, else ``val``."""
    final = study.final
    return "test" if final is not None and any(r.test for r in final.records) else "val"


def objective_on(study: Study, split: str) -> str:
    """The objective's name on a split."""
    return split + study.plan.objective["metric"].removeprefix("val")


def compared(study: Study) -> dict[str, Candidate]:
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


@dataclass(frozen=True)
class Score:
    """A metric of a configuration: over seeds, and where it lies with 95 % confidence."""

    mean: float
    std: float | None
    interval: Interval | None


def measured(one: Candidate, split: str) -> dict[str, Score]:
    """Each main metric with its interval: over seeds if there are several, else over items."""
    found = {}
    values = scores(one.records, split)
    for key, numbers in values.items():
        several = len(numbers) > 1
        std = float(np.std(numbers, ddof=1)) if several else None
        items = {} if several else item_intervals(one, split)
        found[key] = Score(fmean(numbers), std, t_interval(numbers) if several else items.get(key))
    return found


def item_intervals(one: Candidate, split: str) -> dict[str, Interval]:
    """What ``evaluate.py`` found by resampling the items, if it saw what the record tells."""
    trial = one.best_trial
    if trial is None:
        return {}
    try:
        content = json.loads((trial.directory / EVALUATION.format(split)).read_text("utf-8"))
        same = 0 <= content["difference_from_record"] <= SAME
        if not same or content["bootstrap"]["confidence"] != CONFIDENCE:
            return {}
        return {
            str(name): (float(value["low"]), float(value["high"]))
            for name, value in content["figures"].items()
            if "low" in value
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # not evaluated, or not so


def final_blocks(study: Study) -> list[Block]:
    """The table of scores with its intervals, and the objective drawn."""
    split = split_of(study)
    candidates = compared(study)
    known = {name: measured(one, split) for name, one in candidates.items()}
    known = {name: values for name, values in known.items() if values}
    if not known:
        return []
    records = [record for one in candidates.values() for record in one.records]
    trivial = baselines(records, split)
    target = objective_on(study, split)
    keys = dict.fromkeys([target, *(key for values in known.values() for key in values)])
    shown = [key for key in keys if any(key in values for values in known.values())]
    blocks: list[Block] = [_table(split, target, shown, known, trivial)]
    if target in shown:
        blocks.append(_drawing(target, known, trivial))
    if not any(score.interval for values in known.values() for score in values.values()):
        words = ["python", "evaluate.py", f"checkpoint={study.result.directory}", f"split={split}"]
        blocks += [Text(NO_INTERVALS, "note"), Command(shlex.join(words))]
    return blocks


def _table(
    split: str,
    target: str,
    keys: list[str],
    known: dict[str, dict[str, Score]],
    trivial: dict[str, dict[str, float]],
) -> Table:
    all_of = [score for values in known.values() for score in values.values()]
    several = any(score.std is not None for score in all_of)
    certain = any(score.interval is not None for score in all_of)
    columns = [Column("metric")]
    for name in known:
        columns.append(Column(name, "spread" if several else "number"))
        columns += [Column(f"{name}, 95 % CI", "interval")] if certain else []
    columns += [Column(f"trivial: {name}", "number") for name in trivial]
    what = ""
    if several:
        what = "; mean ± std over seeds, confidence interval by Student's t"
    elif certain:
        what = "; confidence interval by bootstrap over the items (evaluate.py)"
    caption = f"Scores on {SPLITS[split]}, beside trivial predictors on the same data{what}."
    table = Table("final", caption, columns)
    for key in keys:
        cells: list[object] = [key]
        for values in known.values():
            score = values.get(key, Score(math.nan, None, None))
            cells.append((score.mean, score.std) if several else score.mean)
            cells += [score.interval] if certain else []
        cells += [means.get(key) for means in trivial.values()]
        table.add(*cells, mark="best" if key == target else "")
    return table


def _drawing(
    target: str, known: dict[str, dict[str, Score]], trivial: dict[str, dict[str, float]]
) -> Figure:
    rows = [
        (name, values[target].mean, values[target].interval, colour)
        for (name, values), colour in zip(known.items(), PALETTE, strict=False)
        if target in values
    ]
    rows += [
        (f"trivial: {name}", means[target], None, FAINT)
        for name, means in trivial.items()
        if target in means
    ]
    names, middles, ends, colours = map(list, zip(*rows, strict=True))
    lines = "; lines: 95 % confidence intervals" if any(ends) else ""
    caption = f"{target}: final and starting configuration, trivial predictors{lines}."
    draw = partial(intervals, names, middles, ends, target, colours)  # type: ignore[arg-type]
    return Figure("final", caption, draw)


def final_pictures(study: Study) -> Section | None:
    """What the final configuration predicts on test data."""
    final = study.final
    trial = final.best_trial if final is not None and study.test is not None else None
    if trial is None:
        return None
    files = sorted((trial.directory / "figures").glob("test_*.png"))[:MOST_PICTURES]
    blocks: list[Block] = [
        Picture(
            f"final_{path.stem}",
            f"Final configuration: {path.stem.removeprefix('test_').replace('_', ' ')}, test data.",
            path,
        )
        for path in files
    ]
    return Section("Predictions of the final configuration", blocks) if blocks else None

"""The final configuration on test data, beside the starting one and trivial predictors."""

from __future__ import annotations

from functools import partial
from statistics import fmean

from common.record import RunRecord
from reporting.content import Block, Column, Figure, Picture, Section, Table, Text
from reporting.figures.scatter import intervals
from reporting.figures.style import FAINT, PALETTE
from reporting.view import Candidate, Study
from studies.statistics.frame import is_number
from studies.statistics.intervals import Interval, t_interval

SPLITS = {"test": "test data, looked at once", "val": "validation data, which chose the best epoch"}
FINAL, START = "final configuration", "starting configuration"
MOST_PICTURES = 6


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


def final_blocks(study: Study) -> list[Block]:
    """The table of scores with its intervals, and the objective drawn."""
    split = split_of(study)
    candidates = compared(study)
    measured = {name: scores(one.records, split) for name, one in candidates.items()}
    measured = {name: values for name, values in measured.items() if values}
    if not measured:
        return []
    records = [record for one in candidates.values() for record in one.records]
    trivial = baselines(records, split)
    target = objective_on(study, split)
    keys = dict.fromkeys([target, *(key for values in measured.values() for key in values)])
    keys = {key: None for key in keys if any(key in values for values in measured.values())}
    blocks: list[Block] = [_table(study, split, measured, trivial, list(keys))]
    if target in keys:
        blocks.append(_drawing(target, measured, trivial))
    few = min(len(v) for values in measured.values() for v in values.values())
    if few < 2:
        text = "Confidence intervals need two seeds; with one, a difference may be noise."
        blocks.append(Text(text, "note"))
    return blocks


def _table(
    study: Study,
    split: str,
    measured: dict[str, dict[str, list[float]]],
    trivial: dict[str, dict[str, float]],
    keys: list[str],
) -> Table:
    several = any(len(v) > 1 for values in measured.values() for v in values.values())
    columns = [Column("")]
    for key in keys:
        columns.append(Column(key, "spread" if several else "number"))
        columns += [Column(f"{key} 95 % CI", "interval")] if several and key == keys[0] else []
    what = "; mean ± std over seeds, 95 % confidence interval by Student's t" if several else ""
    caption = f"Scores on {SPLITS[split]}, beside trivial predictors on the same data{what}."
    table = Table("final", caption, columns)
    for name, values in measured.items():
        cells: list[object] = [name]
        for key in keys:
            found = values.get(key, [])
            mean = fmean(found) if found else None
            cells.append((mean, _std(found)) if several else mean)
            cells += [t_interval(found)] if several and key == keys[0] else []
        table.add(*cells, mark="best" if name == next(iter(measured)) else "")
    for name, means in trivial.items():
        cells = [f"trivial: {name}"]
        for key in keys:
            cells.append((means.get(key), None) if several else means.get(key))
            cells += [None] if several and key == keys[0] else []
        table.add(*cells)
    return table


def _std(values: list[float]) -> float | None:
    import numpy as np

    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _drawing(
    target: str, measured: dict[str, dict[str, list[float]]], trivial: dict[str, dict[str, float]]
) -> Figure:
    names, middles, colours = [], [], []
    ends: list[Interval | None] = []
    for (name, values), colour in zip(measured.items(), PALETTE, strict=False):
        if target in values:
            names.append(name)
            middles.append(fmean(values[target]))
            ends.append(t_interval(values[target]) if len(values[target]) > 1 else None)
            colours.append(colour)
    for name, means in trivial.items():
        if target in means:
            names.append(f"trivial: {name}")
            middles.append(means[target])
            ends.append(None)
            colours.append(FAINT)
    lines = "; lines: 95 % confidence intervals" if any(ends) else ""
    caption = f"{target}: final and starting configuration, trivial predictors{lines}."
    return Figure("final", caption, partial(intervals, names, middles, ends, target, colours))


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

"""Two studies side by side: what they chose, how good that is, how values did in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean

import pandas as pd

from phasewise.analysis.statistics.effects import fair_rows, marginal_means, phase_effects
from phasewise.analysis.statistics.frame import in_order, is_number
from phasewise.analysis.statistics.intervals import t_interval
from phasewise.records.baselines import trivial
from phasewise.records.record import RunRecord
from phasewise.report.content import (
    Block,
    Column,
    Figure,
    Mark,
    Picture,
    Report,
    Section,
    Table,
    Text,
)
from phasewise.report.figures.curves import Curve, Panel, draw_curves
from phasewise.report.figures.style import PALETTE, handle
from phasewise.report.figures.values import Value, pairs
from phasewise.report.sections.configuration import NO_SETTINGS, full_settings
from phasewise.report.sections.curves import panels
from phasewise.report.sections.final import baselines, compared, objective_on, scores
from phasewise.report.sections.glance import STATISTICS, statistics
from phasewise.report.sections.summary import facts
from phasewise.report.text import listed, plain
from phasewise.report.view import StudyView
from phasewise.study.results import UNSET

Pair = tuple[StudyView, StudyView]


def comparison_report(studies: Pair) -> Report:
    """The content of a comparison."""
    names = labels(studies)
    sections = [
        Section("Side by side", [*warnings(studies), *side_by_side(studies, names)]),
        Section("Best configurations", [configurations(studies, names)]),
        *shared_values(studies, names),
        *best_curves(studies, names),
        *best_pictures(studies, names),
    ]
    running = any(study.plan.status == "running" for study in studies)
    return Report(f"{names[0]} against {names[1]}", [], sections, running)


def labels(studies: Pair) -> tuple[str, str]:
    """Names that differ."""
    one, other = (study.title for study in studies)
    if one == other:
        one, other = (study.result.directory.resolve().name for study in studies)
    return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")


def warnings(studies: Pair) -> list[Block]:
    """Why results may not be comparable."""
    one, other = studies
    found = []
    if one.plan.task != other.plan.task:
        found.append(f"The tasks differ: {one.plan.task} and {other.plan.task}.")
    if one.plan.objective != other.plan.objective:
        goals = [f"{s.plan.objective['metric']} ({s.plan.objective['mode']})" for s in studies]
        found.append(f"The objectives differ: {goals[0]} and {goals[1]}; scores do not compare.")
    known = [[trial.record for _, _, trial in study.trials() if trial.record] for study in studies]
    key = "hash" if all("hash" in it.data for side in known for it in side) else "split_hash"
    hashes = [{str(it.data[key]) for it in side if key in it.data} for side in known]
    if all(hashes) and hashes[0] != hashes[1]:
        found.append("The two were trained and validated on different images.")
    found += _pixel_sizes(known, labels(studies))
    return [Text(text, "warning") for text in found]


def _pixel_sizes(known: Sequence[Sequence[RunRecord]], names: Sequence[str]) -> Iterator[str]:
    """That images, and with them what is compared pixel by pixel, were of different sizes."""
    found = [[it.data.get("image_size") for it in runs] for runs in known]
    sides = [sorted({size for size in one if isinstance(size, int)}) for one in found]
    if all(sides) and sides[0] != sides[1]:
        sized = zip(names, sides, strict=True)
        told = "; ".join(f"{name}: {listed([*map(str, it)])} pixels" for name, it in sized)
        least = min(min(it) for it in sides)
        yield (
            f"The images have different sizes ({told}). On a coarser grid borders lie elsewhere "
            "and small things vanish, so that scores of masks differ already by that, and counts "
            "by what is too small to be seen. Where a task compares masks alone, evaluate.py "
            f"checkpoint=DIRECTORY mask_size={least} scores the finer one at {least} pixels too."
        )


def side_by_side(studies: Pair, names: Sequence[str]) -> list[Block]:
    """Facts of both, then scores with their differences."""
    table = Table("studies", "The two studies.", [Column(""), *map(Column, names)])
    for (what, one), (_, other) in zip(*map(facts, studies), strict=True):
        table.add(what, one, other)
    every = Table("all_trials", "All completed runs.", [Column(""), *STATISTICS.values()])
    for study, name in zip(studies, names, strict=True):
        frame = study.frame.drop_duplicates("trial")
        numbers = statistics(frame, study.plan.objective["mode"])
        every.add(name, *(numbers[one] for one in STATISTICS))
    return [table, score_table(studies, names), every]


def score_table(studies: Pair, names: Sequence[str]) -> Table:
    """Of the best configurations, the starting ones and trivial predictors."""
    rows = [_scores(study) for study in studies]
    comparable = studies[0].plan.objective == studies[1].plan.objective
    columns = [
        Column(""),
        *(Column(name, "spread") for name in names),
        *(Column(f"{name} 95 % CI", "interval") for name in names),
        *([Column("difference", "signed"), Column("in %", "percent")] if comparable else []),
    ]
    caption = (
        "Mean ± std over seeds, with Student's 95 % interval where there are several; "
        f"differences: {names[1]} less {names[0]}."
    )
    table = Table("scores", caption, columns)
    for what in dict.fromkeys([*rows[0], *rows[1]]):
        values = [row.get(what, []) for row in rows]
        cells: list[object] = [_spread(v) for v in values]
        cells += [t_interval(v) if len(v) > 1 else None for v in values]
        if comparable:
            cells += _difference(*values)
        table.add(what, *cells)
    return table


def _scores(study: StudyView) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    records: list[RunRecord] = []
    for name, one in compared(study).items():
        records += one.records
        for split in ("val", "test"):
            target = objective_on(study, split)
            values = scores(one.records, split).get(target)
            if values:
                found[f"{name}: {target}"] = values
    for split in ("val", "test"):
        target = objective_on(study, split)
        known = [v[target] for v in trivial(baselines(records, split)).values() if target in v]
        if known:
            best = max if study.plan.objective["mode"] == "max" else min
            found[f"best trivial predictor: {target}"] = [best(known)]
    return found


def _spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    std = float(pd.Series(values).std()) if len(values) > 1 else None
    return (fmean(values) if values else None), std


def _difference(one: Sequence[float], other: Sequence[float]) -> list[float | None]:
    if not one or not other:
        return [None, None]
    gap = fmean(other) - fmean(one)
    return [gap, 100 * gap / abs(fmean(one)) if fmean(one) else None]


def configurations(studies: Pair, names: Sequence[str]) -> Table:
    """Key by key; differences are marked."""
    caption = "What each study chose; keys that differ are marked."
    table = Table("configurations", caption, [Column("key"), *map(Column, names)])
    finals = [study.final for study in studies]
    for key in dict.fromkeys(key for final in finals if final for key in full_settings(final)):
        if key not in NO_SETTINGS:
            one, other = (
                plain(final.phase.result.setting(final.result, key) if final else UNSET)
                for final in finals
            )
            mark: Mark = "worst" if one != other else ""
            table.add(key, one, other, mark=mark)
    return table


def shared_values(studies: Pair, names: Sequence[str]) -> list[Section]:
    """Means of the values that both studies tried, and which keys mattered in each."""
    effects = [phase_effects(study.result).drop_duplicates("key") for study in studies]
    keys = [key for key in effects[0]["key"] if key in set(effects[1]["key"])]
    if not keys:
        return []
    tables = [{key: _means(study, key) for key in keys} for study in studies]
    columns = [Column("key"), Column("value"), *(Column(name, "number") for name in names)]
    caption = "Mean objective of each value, within the phase that varied the key."
    table = Table("shared_values", caption, columns)
    drawn: dict[str, list[tuple[Value, Value]]] = {}
    for key in keys:
        one, other = (means[key] for means in tables)
        for value in in_order([*one.index, *other.index]):
            found = [means.get(value) for means in (one, other)]
            table.add(key, value, *(None if v is None else float(v) for v in found))
            if all(map(is_number, found)):
                bars = [
                    Value(plain(value), colour, [float(v)])
                    for v, colour in zip(found, PALETTE, strict=False)
                ]
                drawn.setdefault(key, []).append((bars[0], bars[1]))
    blocks: list[Block] = [table]
    if drawn and studies[0].plan.objective == studies[1].plan.objective:
        metric = studies[0].plan.objective["metric"]
        text = f"Mean {metric} by value: {names[0]} and {names[1]}."
        draw = partial(pairs, drawn, metric, list(zip(names, PALETTE, strict=False)))
        blocks.append(Figure("shared_values", text, draw))
    return [Section("Values that both tried", blocks)]


def _means(study: StudyView, key: str) -> pd.Series:
    phase = next(phase for phase in study.phases if key in phase.keys)
    return marginal_means(fair_rows(study.frame_of(phase), phase.result, key), key, phase.mode)[
        "mean"
    ]


def best_curves(studies: Pair, names: Sequence[str]) -> list[Section]:
    """The best run of each over the other's."""
    found, shown = [], dict[str, Panel]()
    for study, colour in zip(studies, PALETTE, strict=False):
        trial = study.final.best_trial if study.final else None
        if trial is not None and trial.record is not None and study.final is not None:
            rows, epoch = trial.history(), trial.record.objective["epoch"]
            starred = next((row for row in rows if row["epoch"] == epoch), None)
            found.append(Curve([rows], colour, role="best", starred=starred))
            for panel in panels(study.final.phase):
                shown[panel.name] = _both(panel, shown.get(panel.name, panel))
    if not found or not shown:
        return []
    entries = [handle(c, name) for name, c in zip(names, PALETTE, strict=False)]
    draw = partial(draw_curves, found, list(shown.values()), entries)
    text = "Learning curves of the best run of each."
    return [Section("Best runs", [Figure("curves", text, draw)])]


def _both(one: Panel, other: Panel) -> Panel:
    return Panel(one.name, one.train or other.train, one.val or other.val)


def best_pictures(studies: Pair, names: Sequence[str]) -> list[Section]:
    """What both predict, best and worst validation images."""
    blocks: list[Block] = []
    for number, (study, name) in enumerate(zip(studies, names, strict=True), 1):
        trial = study.final.best_trial if study.final else None
        for which in ("best", "worst"):
            path = trial.directory / "figures" / f"{which}.png" if trial else None
            if path is not None and path.is_file():
                caption = f"{name}: {which} validation images of the best configuration."
                blocks.append(Picture(f"predictions_{number}_{which}", caption, path))
    return [Section("Predictions", blocks)] if blocks else []

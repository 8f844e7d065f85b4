"""Within a phase: what each value of a swept key scores, and two keys at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from phasewise.analysis.statistics.effects import fair_rows, marginal_means
from phasewise.analysis.statistics.frame import in_order, is_number
from phasewise.analysis.statistics.intervals import t_interval
from phasewise.report.comparable import steadiness
from phasewise.report.content import Block, Column, Figure, Mark, Section, Table, Text
from phasewise.report.figures import heatmap, values
from phasewise.report.figures.style import Colours
from phasewise.report.text import plain
from phasewise.report.view import PhaseView

MOST_VALUES = 30
"""Of a key that bars are drawn for."""

MOST_LEVELS = 4
"""Of the third key that heat maps stand side by side for."""


def measures(phase: PhaseView) -> dict[str, tuple[str, heatmap.End]]:
    """What heat maps show besides the objective: title and which end is framed."""
    steady = steadiness(phase)
    return {steady.column: (steady.title, "lowest"), "epochs_to_best": ("epochs to best", "")}


def values_section(phase: PhaseView, frame: pd.DataFrame, colours: Colours) -> Section | None:
    """Means, spread and heat maps; ``None`` where nothing was varied or finished."""
    scored = frame.dropna(subset=["value"])
    keys = [key for key in phase.own_keys if scored[key].nunique() > 1]
    if not keys:
        return None
    # of one key and one seed, the phase's table says it all
    alone = len(keys) == 1 and scored[keys[0]].is_unique
    blocks: list[Block] = [] if alone else [means_table(phase, frame)]
    drawn = {key: _values(fair_rows(scored, phase.result, key), key, colours) for key in keys}
    drawn = {key: found for key, found in drawn.items() if 0 < len(found) <= MOST_VALUES}
    if drawn:
        repeated = any(len(value.scores) > 1 for found in drawn.values() for value in found)
        caption = (
            f"{phase.title}: mean {phase.metric} by value over all trials with it, error bars: "
            "standard deviation (of fractions as far as 0..1), star: best trial."
            if repeated
            else f"{phase.title}: {phase.metric} by value, one trial each; star: the best."
        )
        draw = partial(values.bars, drawn, phase.metric, phase.mode)
        blocks.append(Figure(f"values_{phase.slug}", caption, draw))
    spread = {
        key: found
        for key, found in drawn.items()
        if max(len(value.scores) for value in found) >= values.BOX
    }
    if spread:
        caption = (
            f"{phase.title}: every trial's {phase.metric} by value; diamonds: mean, boxes: "
            f"quartiles and median, violins: density, from {values.VIOLIN} trials on."
        )
        draw = partial(values.distributions, spread, phase.metric)
        blocks.append(Figure(f"distributions_{phase.slug}", caption, draw))
    return Section("Values", [*blocks, *heat_maps(phase, scored)], anchor=f"values_{phase.slug}")


def means_table(phase: PhaseView, frame: pd.DataFrame) -> Table:
    """Mean, deviation, best and count of each value of each key."""
    fair = {key: fair_rows(frame, phase.result, key) for key in phase.own_keys}
    means = {key: marginal_means(rows, key, phase.mode) for key, rows in fair.items()}
    alone = phase.result.centre is not None
    robust = not alone and _has_spread(phase)
    repeated = any(table["count"].max() > 1 for table in means.values())
    columns = [
        Column("key"),
        Column("value"),
        Column("mean", "number"),
        *([Column("std", "number"), Column("95 % CI", "interval")] if repeated else []),
        *([Column("std over settings", "number")] if robust else []),
        *([Column("best", "number")] if repeated else []),
        Column("trials", "count"),
    ]
    said = [f"{phase.title}: {phase.metric} by value, over all trials that have it"]
    said[0] += " and share the values of the other keys, which were varied one at a time" * alone
    said += ["95 % CI: Student's interval of the mean"] * repeated
    said += [
        "std over settings: of the means over seeds, which tells how robust a value is against "
        "those of the other keys"
    ] * robust
    table = Table(f"values_{phase.slug}", f"{'; '.join(said)}.", columns)
    for key, found in means.items():
        known = found["mean"].dropna()
        if known.empty:
            continue
        top = known.idxmax() if phase.mode == "max" else known.idxmin()
        for value, row in found.iterrows():
            own = fair[key][fair[key][key] == value].dropna(subset=["value"])
            certain = t_interval([*own["value"]]) if len(own) > 1 else None
            cells: list[object] = [key, value, float(row["mean"])]
            cells += [float(row["std"]), certain] if repeated else []
            cells += [float(own.groupby("candidate")["value"].mean().std())] if robust else []
            cells += [float(row["best"])] if repeated else []
            mark: Mark = "best" if value == top and len(known) > 1 else ""
            table.add(*cells, int(row["count"]), mark=mark)
    return table


def _has_spread(phase: PhaseView) -> bool:
    """Whether means over seeds can vary over settings in another way than single runs do."""
    several = {len(one.values) for one in phase.candidates} - {0, 1}
    groups = [ones for key in phase.own_keys for ones in phase.by_value(key).values()]
    return bool(several) and max(map(len, groups), default=0) > 1


def _values(scored: pd.DataFrame, key: str, colours: Colours) -> list[values.Value]:
    groups = {value: group["value"].tolist() for value, group in scored.groupby(key, sort=False)}
    return [
        values.Value(plain(value), colours.of(key, value), groups[value])
        for value in in_order(list(groups))
    ]


def heat_maps(phase: PhaseView, scored: pd.DataFrame) -> list[Block]:
    """The objective, stability and epochs to best over the two numeric keys that matter most."""
    known = {key: in_order(list(scored[key])) for key in phase.own_keys}
    numeric = [key for key, v in known.items() if len(v) > 1 and all(map(is_number, v))]
    if len(numeric) < 2 or phase.result.centre is not None:  # nothing but a cross
        return []
    most = sorted(numeric, key=lambda key: -_span(scored, key))[:2]
    x, y = sorted(most, key=lambda key: -len(known[key]))  # a page is wide
    others = [
        key for key in phase.own_keys if key not in (x, y) and 1 < len(known[key]) <= MOST_LEVELS
    ]
    level = max(others, key=lambda key: _span(scored, key), default=None)
    best: heatmap.End = "highest" if phase.mode == "max" else "lowest"
    titles = {"value": (phase.metric, best), **measures(phase)}
    parts = dict(iter(scored.groupby(level, sort=False))) if level else {"": scored}
    levels = in_order(list(parts))
    shown = [
        heatmap.Measure(title, [_grid(parts[one], y, x, known, name) for one in levels], end)
        for name, (title, end) in titles.items()
        if name == "value" or scored[name].nunique() > 1
    ]
    averaged = [key for key in phase.own_keys if key not in (x, y, level) and len(known[key]) > 1]
    caption = f"{phase.title}: {x} against {y}" + (f", by {level}" if level else "")
    caption += f"; means over {' and '.join(averaged)}" if averaged else ""
    one = f" of each {level}, thicker the best of all" if level else ""
    caption += f"; framed: the best cell{one}"
    if any(heatmap.colour_scale(measure)[1] for measure in shown):
        caption += "; a cell far off the others does not stretch the colours (arrow at their bar)"
    caption += "."
    draw = partial(
        heatmap.heatmaps,
        shown,
        list(map(plain, levels)),
        (x, list(map(plain, known[x]))),
        (y, list(map(plain, known[y]))),
    )
    if max(len(known[x]), len(known[y])) > MOST_VALUES:
        return [Text(f"{x} and {y} have too many values for a heat map.", "note")]
    return [Figure(f"heatmap_{phase.slug}", caption, draw)]


def _grid(
    part: pd.DataFrame, y: str, x: str, known: Mapping[str, Sequence[object]], name: str
) -> np.ndarray:
    means = part.pivot_table(index=y, columns=x, values=name, aggfunc="mean", dropna=False)
    return means.reindex(index=known[y], columns=known[x]).to_numpy(dtype=float)


def _span(scored: pd.DataFrame, key: str) -> float:
    means = scored.groupby(key)["value"].mean()
    return float(means.max() - means.min())

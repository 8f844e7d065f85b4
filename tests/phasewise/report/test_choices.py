"""Figures and tables that show what to choose; recomputed from the records by other means."""

from __future__ import annotations

import csv
import json
import statistics
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle

from phasewise.analysis.statistics.pareto import pareto_front
from phasewise.records.record import RunRecord
from phasewise.report.content import Bullets, Figure, Section, Table, Text
from phasewise.report.figures.style import Colours
from phasewise.report.report import write_report
from phasewise.report.sections.levels import levels_section
from phasewise.report.sections.top import top_figure
from phasewise.report.sections.trade_off import scored, trade_off_blocks
from phasewise.report.sections.values import heat_maps
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import CLEAN, Row, Settings, Synthetic, noise

RATE, BATCH, KIND = "optimizer.lr", "data.batch_size", "model.architecture"
GRID = f"{RATE}=1e-4,1e-3 {BATCH}=8,16,32 {KIND}=unet,resunet"


def score(settings: Settings, seed: int) -> float:
    """The best rate is another one for each network."""
    fits = (settings[RATE] == 1e-3) == (settings[KIND] == "unet")
    return 0.4 + 0.2 * fits + settings[BATCH] / 1000 + 0.01 * noise(settings, seed)


def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """A second metric at the cost of the first, last values, and a loss that batches steady."""
    record.headline = ["mIoU", "mAP"]
    own = noise({**settings, "second": True}, record.seed or 0)
    value = record.best["val/mIoU"]
    against = 1.1 - value if record.objective["mode"] == "max" else value
    record.best["val/mAP"] = against + 0.1 * own
    record.last["val/mIoU"] = value * (0.9 + 0.02 * own)
    for row in rows:
        row["val/loss"] *= 8 / settings[BATCH]


def grid(directory: Path, **more: Any) -> StudyView:
    settings = {"phases": {"": GRID}, "score": score, "defaults": {}, "seeds": [0, 1]} | more
    Synthetic(edit=edit, **settings).write(directory)
    return StudyView(read_study(directory))


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(directory.glob("**/record.json"))]


def setting(record: dict[str, Any], key: str) -> str:
    return dict(word.split("=") for word in record["overrides"])[key]


def by_configuration(directory: Path, part: str, name: str) -> dict[tuple[str, ...], float]:
    """Means over seeds, straight from the files."""
    found: dict[tuple[str, ...], list[float]] = {}
    for record in records(directory):
        cell = tuple(setting(record, key) for key in (RATE, BATCH, KIND))
        found.setdefault(cell, []).append(record[part][name])
    assert {len(values) for values in found.values()} == {2}
    return {cell: statistics.fmean(values) for cell, values in found.items()}


def drawn(blocks: list[Any], name: str) -> Drawing:
    (one,) = (block for block in blocks if isinstance(block, Figure) and block.name == name)
    return one.draw()


def of(section: Section | None, kind: type) -> Any:
    assert section is not None
    (one,) = (block for block in section.blocks if isinstance(block, kind))
    return one


def test_best_five_against_their_last_epoch(tmp_path: Path) -> None:
    study = grid(tmp_path)
    figure = drawn(top_figure(study.phases[0], Colours(study.swept)), "top_1_sweep")
    (ax,) = figure.axes
    best = by_configuration(tmp_path, "best", "val/mIoU")
    last = by_configuration(tmp_path, "last", "val/mIoU")
    first = sorted(best, key=lambda cell: -best[cell])[:5]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == [f"{i}. {float(a)}, {b}, {c}" for i, (a, b, c) in enumerate(first, 1)]
    lines = [line for line in ax.lines if len(np.asarray(line.get_xdata())) == 2]
    ends = [tuple(map(float, np.asarray(line.get_xdata()))) for line in lines]
    assert ends == [pytest.approx((best[cell], last[cell])) for cell in first]
    for text, cell in zip(ax.texts, first, strict=True):
        change = 100 * (last[cell] / best[cell] - 1)
        assert text.get_text() == f"{best[cell]:.4f}   {change:#.4g} %"


def test_without_a_last_epoch_there_is_no_such_figure(tmp_path: Path) -> None:
    def forget(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.last = {}

    Synthetic({"lr": CLEAN["lr"]}, edit=forget).write(tmp_path / "none")
    study = StudyView(read_study(tmp_path / "none"))
    assert top_figure(study.phases[0], Colours(study.swept)) == []

    def some(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if record.seed == 1 and settings[RATE] == 1e-2:
            record.last = {}

    Synthetic({"lr": CLEAN["lr"]}, edit=some).write(tmp_path / "one")
    study = StudyView(read_study(tmp_path / "one"))
    figure = drawn(top_figure(study.phases[0], Colours(study.swept)), "top_1_lr")
    assert ["%" in text.get_text() for text in figure.axes[0].texts] == [True, False, True]


@given(st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 2), min_size=1, max_size=12))
def test_front_against_the_definition(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    beaten = {
        i
        for i, (x, y) in enumerate(points)
        if any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
    }
    assert len(front) == len({*front}) and {*front} == {*range(len(points))} - beaten
    assert all(
        points[i][0] >= points[j][0] and points[i][1] <= points[j][1]
        for i, j in combinations(front, 2)
    )


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_front_of_a_study_stands_in_figure_and_table(tmp_path: Path, mode: str) -> None:
    study = grid(tmp_path, mode=mode)
    figure, table = trade_off_blocks(study, Colours(study.swept))
    assert isinstance(figure, Figure) and isinstance(table, Table)
    one = by_configuration(tmp_path, "best", "val/mIoU")
    other = by_configuration(tmp_path, "best", "val/mAP")
    sign = 1 if mode == "max" else -1
    front = {
        cell
        for cell in one
        if not any(
            sign * one[it] >= sign * one[cell] and other[it] >= other[cell] and it != cell
            for it in one
        )
    }
    assert 1 < len(front) < len(one)
    titles = [column.title for column in table.columns]
    rows = [dict(zip(titles, row, strict=True)) for row in table.rows]
    cells = [f"{one[cell]:.6g} {other[cell]:.6g}" for cell in front]
    assert sorted(f"{r['val/mIoU']:.6g} {r['val/mAP']:.6g}" for r in rows) == sorted(cells)
    assert [row["number"] for row in rows] == [*range(1, len(front) + 1)]
    assert {row["seeds"] for row in rows} == {2}
    (ax,) = figure.draw().axes
    (steps,) = (line for line in ax.lines if line.get_drawstyle() == "steps-post")
    places = [(row["val/mIoU"], row["val/mAP"]) for row in rows]
    assert np.asarray(steps.get_xydata()).tolist() == [list(place) for place in places]
    dots = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections[:-1]])
    expected = [[one[cell], other[cell]] for cell in one]
    assert sorted(dots.tolist()) == pytest.approx(np.array(sorted(expected)))
    ends = [[*map(int, text.get_text().split("-"))] for text in ax.texts]  # neighbours share one
    assert [n for each in ends for n in range(each[0], each[-1] + 1)] == [r["number"] for r in rows]
    sense = "of both, more is better" if mode == "max" else "of val/mIoU less is better, of val/mAP"
    assert sense in figure.caption


def test_a_function_of_the_objective_is_no_trade_off(tmp_path: Path) -> None:
    def dice(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        edit(record, rows, settings)
        value = record.best["val/mIoU"]
        record.best |= {"val/dice": 2 * value / (1 + value)}
        record.headline = ["mIoU", "dice", *names]

    for names in ([], ["mAP"]):
        Synthetic({"": GRID}, score, {}, seeds=[0, 1], edit=dice).write(tmp_path / str(len(names)))
        study = StudyView(read_study(tmp_path / str(len(names))))
        first = trade_off_blocks(study, Colours(study.swept))[0]
        if names:
            assert isinstance(first, Figure) and "val/mIoU and val/mAP" in first.caption
        else:
            assert isinstance(first, Text) and "No trade-off" in first.text
            assert first.text.endswith("the better one in val/dice too.")


def test_a_configuration_that_ran_again_with_more_seeds_is_one_point(tmp_path: Path) -> None:
    words = f"{RATE}=1e-4,1e-3 {BATCH}=8,16 {KIND}=unet"
    sweep = Synthetic({"a": words, "b": words}, score, {}, seeds=[0, 1, 2], edit=edit)
    plan = sweep.write(tmp_path)
    for candidate in plan.phases[0].candidates:  # phase b has the runs of all its seeds
        del candidate.trials[1:]
    plan.phases[0].seeds = [0]
    plan.write()
    found = scored(StudyView(read_study(tmp_path)), "val/mAP")
    assert [one.seeds for one in found] == [3] * 4
    assert {one.one.phase.number for one in found} == {1}
    runs = records(tmp_path)
    assert sum(one.y for one in found) * 3 == pytest.approx(
        sum(record["best"]["val/mAP"] for record in runs)
    )


def test_one_metric_has_no_trade_off(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    study = StudyView(read_study(tmp_path))
    assert trade_off_blocks(study, Colours(study.swept)) == []


def test_best_of_each_level_and_how_it_does_whatever_the_rest(tmp_path: Path) -> None:
    study = grid(tmp_path)
    (phase,) = study.phases
    section = levels_section(phase, study.frame_of(phase), Colours(study.swept))
    table, said = of(section, Table), of(section, Bullets).items
    best = by_configuration(tmp_path, "best", "val/mIoU")
    assert [row[0] for row in table.rows] == sorted(
        ("unet", "resunet"), key=lambda kind: -max(v for cell, v in best.items() if cell[2] == kind)
    )
    titles = [column.title for column in table.columns]
    for row in table.rows:
        found = dict(zip(titles, row, strict=True))
        own = {cell: value for cell, value in best.items() if cell[2] == found[KIND]}
        top = max(own, key=lambda cell: own[cell])
        assert (found[RATE], found[BATCH]) == (float(top[0]), int(top[1]))
        assert found["val/mIoU"][0] == pytest.approx(own[top])
        assert found["configurations"] == 6
        assert found["their mean"] == pytest.approx(statistics.fmean(own.values()))
        assert found["their std"] == pytest.approx(statistics.stdev(own.values()))
    assert said[0].startswith("architecture=unet: take ") and "lr=0.001 is best" in said[0]
    assert said[1].startswith("architecture=resunet: take ") and "lr=0.0001 is best" in said[1]


def test_lines_are_the_means_of_the_pairs_of_levels(tmp_path: Path) -> None:
    study = grid(tmp_path)
    (phase,) = study.phases
    section = levels_section(phase, study.frame_of(phase), Colours(study.swept))
    figure = drawn(section.blocks if section else [], "interaction_1_sweep")
    by_panel = dict(zip(((i, j) for i in (0, 1) for j in (0, 1)), figure.axes, strict=True))
    assert figure.axes[2].get_ylabel() == "std of val/loss"
    keys = [ax.get_xlabel() for ax in figure.axes[2:]]
    assert {*keys} == {RATE, BATCH}
    for (row, column), ax in by_panel.items():
        for kind, container in zip(("unet", "resunet"), ax.containers, strict=True):
            found = np.asarray(container.lines[0].get_ydata())
            half = [(s[1, 1] - s[0, 1]) / 2 for s in container.lines[2][0].get_segments()]
            values = pairs(tmp_path, keys[column], kind, "stability" if row else "value")
            assert found == pytest.approx([statistics.fmean(one) for one in values])
            assert half == pytest.approx([statistics.stdev(one) for one in values])


def test_losses_of_two_kinds_are_not_compared(tmp_path: Path) -> None:
    words = "loss.name=dice,focal optimizer.lr=1e-4,1e-3"
    Synthetic({"": words}, lambda s, _: 0.5 + s[RATE] + 0.01 * noise(s, 0), {}, seeds=[0]).write(
        tmp_path
    )
    study = StudyView(read_study(tmp_path))
    (phase,) = study.phases
    section = levels_section(phase, study.frame_of(phase), Colours(study.swept))
    figure = of(section, Figure)
    assert "loss.name differs" in figure.caption
    assert [ax.get_ylabel() for ax in figure.draw().axes] == ["val/mIoU", "std of val/mIoU"]


def pairs(directory: Path, key: str, kind: str, what: str) -> list[list[float]]:
    """Of all runs of a network by the value of a key, from its files."""
    found: dict[float, list[float]] = {}
    for file in directory.glob("**/record.json"):
        record = json.loads(file.read_text())
        if setting(record, KIND) == kind:
            value = record["objective"]["value"]
            if what == "stability":
                with file.with_name("metrics.csv").open() as rows:
                    value = statistics.stdev(float(r["val/loss"]) for r in csv.DictReader(rows))
            found.setdefault(float(setting(record, key)), []).append(value)
    return [found[key] for key in sorted(found)]


def test_the_best_cell_of_each_level_is_framed(tmp_path: Path) -> None:
    study = grid(tmp_path)
    (phase,) = study.phases
    frame = study.frame_of(phase)
    (figure,) = (one for one in heat_maps(phase, frame) if isinstance(one, Figure))
    assert "best cell of each model.architecture" in figure.caption
    best = by_configuration(tmp_path, "best", "val/mIoU")
    rates, batches = ["0.0001", "0.001"], ["8", "16", "32"]
    top = max(best.values())
    for ax, kind in zip(figure.draw().axes[:2], ("unet", "resunet"), strict=True):
        own = {cell: value for cell, value in best.items() if cell[2] == kind}
        rate, batch, _ = max(own, key=lambda cell: own[cell])
        (patch,) = ax.patches
        assert isinstance(patch, Rectangle)
        place = round(patch.get_x() + 0.47), round(patch.get_y() + 0.45)
        assert place == (batches.index(batch), rates.index(f"{float(rate):g}"))
        assert patch.get_linewidth() == (2.5 if max(own.values()) == top else 1.2)


@pytest.mark.usefixtures("undrawn")
def test_phases_of_one_key_have_no_levels(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    write_report(tmp_path)
    assert "Best by" not in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_all_of_it_stands_in_the_report(tmp_path: Path) -> None:
    grid(tmp_path)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert f"### Best by {KIND}" in text.replace("\\_", "_")
    for name in ("top_1_sweep", "interaction_1_sweep", "trade_off"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()
    for name in ("best_by_1_sweep", "trade_off"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file()

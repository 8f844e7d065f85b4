"""Bars, distributions and heat maps: what is drawn is what came in, and stays where it may be."""

from __future__ import annotations

import statistics
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from phasewise.report.figures.ends import Ends, best_against_last
from phasewise.report.figures.heatmap import End, Measure, colour_scale, heatmaps
from phasewise.report.figures.labels import distinct, spread
from phasewise.report.figures.limits import possible_range, whisker
from phasewise.report.figures.scatter import draw_intervals
from phasewise.report.figures.steps import MOST_POINTS, StepCurve, draw_steps, running_mean
from phasewise.report.figures.style import (
    MORE,
    ON_DARK,
    PALETTE,
    PAPER,
    Colours,
    styled,
    to_svg,
)
from phasewise.report.figures.values import Value, bars, distributions

SCORES = {"a": [0.02, 0.03, 0.4], "b": [0.95, 0.99, 0.6]}


def drawn(scores: dict[str, list[float]]) -> Axes:
    values = [Value(name, PALETTE[0], found) for name, found in scores.items()]
    with styled():
        return bars({"key": values}, "val/mIoU", "max").axes[0]


def whiskers(ax: Axes) -> list[np.ndarray]:
    return [segment[:, 1] for lines in ax.collections[:1] for segment in lines.get_segments()]  # type: ignore[attr-defined]


def test_long_names_take_nothing_from_the_bars() -> None:
    def inches(*names: str) -> float:
        with styled():
            figure = bars({"key": [Value(name, PALETTE[0], [0.5]) for name in names]}, "x", "max")
            figure.draw_without_rendering()
        return float(figure.axes[0].get_position().height * figure.get_size_inches()[1])

    assert inches("a", "[flip,color_jitter,scale,shift]") > 0.85 * inches("a", "b")


def test_error_bars_are_the_deviation_and_end_where_fractions_do() -> None:
    ax = drawn(SCORES)
    ends = [(part.min(), part.max()) for part in whiskers(ax)]
    (low, high), (other_low, other_high) = ends
    a, b = SCORES.values()
    assert low == pytest.approx(0, abs=1e-12)  # mean - std < 0
    assert high == pytest.approx(statistics.fmean(a) + statistics.stdev(a))
    assert other_low == pytest.approx(statistics.fmean(b) - statistics.stdev(b))
    assert other_high == pytest.approx(1)  # mean + std > 1


def test_ticks_say_the_values_themselves() -> None:
    ax = drawn({"a": [0.133484], "b": [0.133423]})
    ax.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    assert ax.yaxis.get_offset_text().get_text() == ""
    low, high = ax.get_ylim()
    shown = [float(text.get_text()) for text in ax.get_yticklabels()]
    assert sum(low <= value <= high for value in shown) >= 2


def test_error_bars_of_other_values_are_whole() -> None:
    scores = {"a": [-2.0, 5.0, 1.0], "b": [3.0, 4.0, 2.0]}
    for (name, found), ends in zip(scores.items(), whiskers(drawn(scores)), strict=True):
        mean, error = statistics.fmean(found), statistics.stdev(found)
        assert (ends.min(), ends.max()) == pytest.approx((mean - error, mean + error)), name


def test_no_error_bar_or_interval_leaves_what_a_mean_can_be() -> None:
    fractions, steady = possible_range([0.1, 0.9, np.nan]), possible_range([0.1], spread=True)
    assert (fractions, steady) == ((0, 1), (0, np.inf))
    assert possible_range([-0.1, 0.5]) == possible_range([0.5, 2.0]) == (-np.inf, np.inf)
    assert whisker(0.1, 0.3, fractions) == (0.1, 0.3)
    assert whisker(0.9, 0.3, fractions) == pytest.approx((0.3, 0.1))
    assert whisker(5.0, 9.0, steady) == (5.0, 9.0) and whisker(2.0, 9.0, steady)[0] == 2.0
    with styled():
        lines = [
            draw_intervals(["a"], [middle], [(-0.4, 1.6)], "val/x", ["k"]).axes[0].lines[0]
            for middle in (0.6, 1.2)
        ]
        row = Ends("a", 0.1, 0.1, 0.3, 0.0)
        bar = best_against_last([row], "val/mIoU", ["k"]).axes[0].collections[0]
    assert [list(np.asarray(line.get_xdata())) for line in lines] == [[0, 1], [-0.4, 1.6]]
    assert bar.get_segments()[0][:, 0] == pytest.approx([0.0, 0.4])  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [4, 100])
def test_all_scores_are_points_and_their_mean_is_a_diamond(count: int) -> None:
    scores = [0.5 + 0.001 * i for i in range(count)]
    with styled():
        figure = distributions({"key": [Value("a", PALETTE[0], scores)]}, "val/mIoU")
    lines = {line.get_marker(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}
    assert sorted(lines["o"].tolist()) == scores
    assert lines["D"].tolist() == pytest.approx([statistics.fmean(scores)])
    violins = [it for it in figure.axes[0].collections if it.get_alpha() == 0.35]
    assert len(violins) == (1 if count >= 5 else 0)


def test_one_cell_far_off_leaves_the_others_their_colours() -> None:
    """36 standard deviations of a loss, one of them thirty times the others."""
    grid = np.linspace(0.008, 0.02, 36).reshape(6, 6)
    grid[2, 3] = 0.316
    scale, extend = colour_scale(Measure("std", [grid], "lowest"))
    assert (scale.vmin, scale.vmax) == pytest.approx((0.008, 0.02))
    assert extend == {"extend": "max"}
    with styled():
        names = list(map(str, range(6)))
        figure = heatmaps([Measure("std", [grid], "lowest")], [""], ("x", names), ("y", names))
    shown = figure.axes[0].images[0]
    assert np.ptp(np.delete(shown.norm(grid).ravel(), 15)) == pytest.approx(1)
    assert "0.3160" in {text.get_text() for text in figure.axes[0].texts}


def test_cells_of_a_measure_have_as_many_digits_and_counts_none_too_many() -> None:
    def written(*cells: float) -> list[str]:
        measure = Measure("x", [np.array([cells])], "")
        names = list(map(str, range(len(cells))))
        with styled():
            ax = heatmaps([measure], [""], ("x", names), ("y", ["1"])).axes[0]
        return [text.get_text() for text in ax.texts]

    assert written(0.189, 0.1903, 0.0, np.nan) == ["0.1890", "0.1903", "0.000", "-"]
    assert written(7.0, 12.0, 1234.0, 12345678.0) == ["7", "12", "1234", "1.2e7"]
    assert written(7.0, 12.5, 1234.0) == ["7.000", "12.50", "1234"]


def test_decades_of_cells_are_logarithmic() -> None:
    def scale_of(*cells: float, best: End = "") -> tuple[Normalize, dict[str, Any]]:
        return colour_scale(Measure("x", [np.array([cells])], best))

    scale, extend = scale_of(1e-3, 1e-2, 1e-1, 1.0)
    assert isinstance(scale, LogNorm)
    assert not extend
    assert type(scale_of(0.1, 0.9)[0]) is not LogNorm
    assert scale_of(np.nan)[0].vmax == 1


def test_the_best_cell_keeps_its_colour() -> None:
    grid = np.array([[0.013, 0.017, 0.019], [0.017, 0.02, 0.9]])
    assert colour_scale(Measure("x", [grid], ""))[0].vmax == 0.02
    assert colour_scale(Measure("x", [grid], "highest"))[0].vmax == 0.9


LISTS = [
    "[translate,flip,color_jitter,compose,erase]",
    "[translate,flip,color_jitter,compose,blur]",
    "[translate,flip,color_jitter,contrast,erase]",
]


@pytest.mark.parametrize("length", [8, 12, 28, 32])
@pytest.mark.parametrize(
    "names", [LISTS, ["x" * 50 + "a" + "y" * 50, "x" * 50 + "b" + "y" * 50], ["a", "a", "bb"]]
)
def test_labels_of_different_values_differ(names: Sequence[str], length: int) -> None:
    short = distinct(names, length)
    assert len(set(short)) == len(set(names))
    assert max(map(len, short)) <= length + 1
    assert distinct(["same" * 20] * 2, length)[0] == distinct(["same" * 20] * 2, length)[1]


def test_labels_lie_apart_inside_the_axes_and_in_order() -> None:
    wished = [0.5, 0.51, 0.505, 0.99, 0.995, 0.0, 0.01]
    found = spread(wished, 0.08)
    assert np.argsort(found).tolist() == np.argsort(wished).tolist()
    assert np.diff(sorted(found)).min() >= 0.08 - 1e-9
    assert 0 <= min(found) <= max(found) <= 1
    full = spread([0.5] * 14, 0.2)  # more than there is room for
    assert np.diff(sorted(full)) == pytest.approx(1 / 13)


def test_fourteen_values_have_colours_of_their_own() -> None:
    names = [f"body{i}" for i in range(14)]
    colours = Colours({"backbone": names})
    hues = [colours.of("backbone", name) for name in names]
    assert len(set(hues)) == 14
    assert [colours.marker("backbone", name) != "" for name in names] == [False] * 7 + [True] * 7
    assert {*hues} == {*PALETTE, *MORE}


def test_colours_of_names_can_be_seen_on_a_dark_page() -> None:
    """Three to one at least, as the WCAG ask of graphics (relative luminance, contrast ratio)."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    with styled():
        values = {
            f"k{i}": [Value("a", colour, [0.5])] for i, colour in enumerate([*PALETTE, *MORE])
        }
        dark = b64decode(to_svg(bars(values, "val/IoU", "max"))[1].split(",")[1]).decode()
    shown = [ON_DARK.get(colour.lower(), colour.lower()) for colour in (*PALETTE, *MORE)]
    assert all(colour in dark for colour in shown)
    paper = luminance(ON_DARK[PAPER]) + 0.05
    assert all((luminance(colour) + 0.05) / paper >= 3 for colour in shown)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: best_against_last([Ends("a", 0.5, 0.4, 0.1, -20.0)], "val/IoU", PALETTE[:1]),
        lambda: distributions({"key": [Value("a", PALETTE[0], [0.1, 0.2, 0.3])]}, "val/IoU"),
    ],
)
def test_hollow_points_have_the_colour_of_the_page(draw: Callable[[], Figure]) -> None:
    with styled():
        light, dark = (b64decode(one.split(",")[1]).decode() for one in to_svg(draw()))
    assert PAPER in light
    assert PAPER not in dark and ON_DARK[PAPER] in dark


def test_steps_are_drawn_over_steps_and_epochs() -> None:
    noisy = np.random.default_rng(0).normal(1, 0.1, 3000)
    short = np.linspace(2, 1, 40)
    curves = [
        StepCurve(np.arange(1, len(v) + 1), np.arange(1, len(v) + 1) / 20, {"train/loss": v}, hue)
        for v, hue in ((noisy, PALETTE[0]), (short, PALETTE[1]))
    ]
    with styled():
        left, right = draw_steps(curves, ["train/loss"], []).axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("optimizer step", "epoch")
    raw = {len(line.get_ydata()): np.asarray(line.get_ydata()) for line in left.lines[::2]}  # type: ignore[arg-type]
    assert raw[40].tolist() == short.tolist()
    assert max(raw) <= MOST_POINTS
    assert (raw[max(raw)].min(), raw[max(raw)].max()) == (noisy.min(), noisy.max())
    assert np.asarray(right.lines[2].get_xdata()).max() == 2  # 40 steps are two epochs


def test_running_mean() -> None:
    values = np.random.default_rng(1).normal(size=200)
    found = running_mean(values)
    assert found[100] == pytest.approx(values[95:106].mean())
    assert found[0] == pytest.approx(values[:6].mean())
    assert found[-1] == pytest.approx(values[-6:].mean())

"""Learning curves: what is drawn is what metrics.csv holds."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.report.content import Figure as ReportFigure
from phasewise.report.figures.curves import Curve, Panel, draw_curves, rate_cuts
from phasewise.report.figures.limits import robust_limits
from phasewise.report.figures.style import INK, Colours, styled
from phasewise.report.sections.curves import curves_figure, panels
from phasewise.report.view import PhaseView, StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import Settings, Synthetic

LOSS = Panel("loss", "train/loss", "val/loss")


def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """Terms of the loss, a metric of training images, and a cut of the learning rate."""
    record.headline = ["mIoU", "pixel_acc"]
    for row in rows:
        row["train/loss/boxes"] = 0.4 * row["train/loss"]
        row["val/loss/boxes"] = 0.4 * row["val/loss"]
        row["train/mIoU"] = row["val/mIoU"] + 0.01 * row["epoch"]
        row["val/pixel_acc"] = 0.9
        row["lr"] = 1e-3 if row["epoch"] < 8 else 1e-4


def first_phase(directory: Path, **changes: object) -> PhaseView:
    settings: dict = {"phases": {"lr": "optimizer.lr=1e-4,1e-3,1e-2"}, "edit": edit, **changes}
    Synthetic(**settings).write(directory)
    return StudyView(read_study(directory)).phases[0]


def colours(phase: PhaseView) -> Colours:
    return Colours({key: list(phase.by_value(key)) for key in phase.keys})


def drawn(found: ReportFigure | None) -> Figure:
    assert found is not None
    with styled():
        return found.draw()


def panel(figure: Figure, title: str) -> Axes:
    return next(ax for ax in figure.axes if ax.get_ylabel() == title)


def columns(directory: Path) -> dict[str, list[float]]:
    with (directory / "metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def y(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), float).tolist()


def test_both_splits_and_the_terms_of_the_loss_have_panels(tmp_path: Path) -> None:
    phase = first_phase(tmp_path)
    assert panels(phase) == [
        LOSS,
        Panel("mIoU", "train/mIoU", "val/mIoU", labelled=True),
        Panel("loss/boxes", "train/loss/boxes", "val/loss/boxes"),
    ]
    figure = drawn(curves_figure(phase, colours(phase)))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "mIoU", "loss/boxes"]


def test_all_objectives_have_panels_and_the_best_is_in_front(tmp_path: Path) -> None:
    phase = first_phase(tmp_path)
    goals = [{"metric": name, "mode": "max"} for name in ("val/mIoU", "val/pixel_acc")]
    phase.plan.objectives = goals
    assert panels(phase)[2] == Panel("pixel_acc", None, "val/pixel_acc")
    figure = drawn(curves_figure(phase, colours(phase)))
    marks = [line.get_marker() for line in panel(figure, "loss").lines]
    assert [one for one in marks if one in ("*", "X")] == ["X", "*"]


def test_lines_are_the_means_over_seeds(tmp_path: Path) -> None:
    phase = first_phase(tmp_path)
    figure = drawn(curves_figure(phase, colours(phase)))
    hues = colours(phase)
    for title, name in (("loss", "loss"), ("mIoU", "mIoU"), ("loss/boxes", "loss/boxes")):
        ax = panel(figure, title)
        for one in phase.candidates:
            tables = [columns(trial.directory) for trial in one.result.trials]
            assert len(tables) == 3
            for split, dash in (("train", "--"), ("val", "-")):
                values = [table[f"{split}/{name}"] for table in tables]
                means = [statistics.fmean(parts) for parts in zip(*values, strict=True)]
                hue = hues.of("optimizer.lr", one.settings["optimizer.lr"])
                own = [it for it in ax.lines if (it.get_color(), it.get_linestyle()) == (hue, dash)]
                assert any(y(it) == pytest.approx(means) for it in own), (title, split)
    bands = [it.get_paths()[0].vertices[:, 1] for it in panel(figure, "mIoU").collections]
    ends = []
    for one in phase.candidates:
        every = [v for t in one.result.trials for v in columns(t.directory)["val/mIoU"]]
        ends.append(pytest.approx((min(every), max(every))))
    assert sorted((b.min(), b.max()) for b in bands) == sorted(ends, key=lambda it: it.expected)


def test_curves_of_one_epoch_are_dots_at_a_whole_one(tmp_path: Path) -> None:
    """Full for validation and hollow for training, and so the legend says."""
    phase = first_phase(tmp_path, epochs=1, seeds=[0])
    figure = drawn(curves_figure(phase, colours(phase)))
    figure.draw_without_rendering()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert [x for x in ax.get_xticks() if low <= x <= high] == [1]
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        full = [line for line in dots if line.get_markerfacecolor() != "none"]
        assert (len(full), len(dots)) == (3, 6)
    entries = {e.get_label(): e for e in figure.legends[0].legend_handles}
    assert entries["training"].get_markerfacecolor() == "none"
    assert {entries[name].get_linestyle() for name in ("training", "validation")} == {"None"}


def test_the_best_epoch_is_where_the_record_has_it(tmp_path: Path) -> None:
    phase = first_phase(tmp_path, seeds=[0])
    figure = drawn(curves_figure(phase, colours(phase)))
    trial = phase.ranked[0].best_trial
    assert trial is not None
    assert trial.record is not None
    stars = [line for line in panel(figure, "mIoU").lines if line.get_marker() == "*"]
    place = [(float(np.asarray(s.get_xdata())[0]), y(s)[0]) for s in stars]
    assert place == [(trial.record.objective["epoch"], pytest.approx(trial.value))]


def test_names_at_the_ends_and_ticks_at_whole_epochs(tmp_path: Path) -> None:
    phase = first_phase(tmp_path)
    figure = drawn(curves_figure(phase, colours(phase)))
    ax = panel(figure, "mIoU")
    assert {text.get_text() for text in ax.texts} == {"0.0001", "0.001", "0.01"}
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_losses_of_different_kinds_are_not_compared(tmp_path: Path) -> None:
    found = curves_figure(phase := first_phase(tmp_path / "lr"), colours(phase))
    assert found is not None
    assert "cannot be compared" not in found.caption
    phase = first_phase(tmp_path / "loss", phases={"loss": "loss.name=giou,smooth_l1"})
    found = curves_figure(phase, colours(phase))
    assert found is not None
    assert "cannot be compared (loss.name differs: not the same loss)" in found.caption


def line(values: Sequence[float], name: str = "val/loss", **more: float) -> list[Row]:
    return [{"epoch": i, name: v, **more} for i, v in enumerate(values, 1)]


def draw_one(runs: Sequence[Sequence[float]], shown: Panel = LOSS) -> Axes:
    all_of = [Curve([line(values, shown.val or "")], "#0072B2") for values in runs]
    with styled():
        return draw_curves(all_of, [shown], []).axes[0]


def test_one_diverged_run_does_not_flatten_the_others() -> None:
    ax = draw_one([[2, 1, 0.6], [2.1, 1.1, 0.7], [1.9, 0.9, 0.5], [3, 6e5, 5e4]])
    low, high = ax.get_ylim()
    assert 0 < low < 0.5
    assert 2.1 < high < 2.5
    assert ax.get_title("left") == "1 of 4 leaves this panel, to 600,000"
    assert ax.get_yscale() == "linear"


def test_names_at_the_ends_of_lines_can_be_read() -> None:
    """Letters so small need another contrast than lines."""
    curve = Curve([line([1, 2])], "#E69F00", "yellow")
    with styled():
        ax = draw_curves([curve], [replace(LOSS, labelled=True)], []).axes[0]
    (name,) = ax.texts
    assert (name.get_text(), name.get_color()) == ("yellow", INK)


def test_a_better_run_is_never_cut_off() -> None:
    others = [[0.988, 0.987, 0.988 - i / 1e4] for i in range(5)]
    ax = draw_one([*others, [0.988, 0.95, 0.9]])
    assert ax.get_ylim()[0] < 0.9
    assert ax.get_title("left") == ""


def test_decades_get_a_logarithmic_axis_of_losses_only() -> None:
    falling = [[100, 10, 1.0, 0.1], [90, 9, 0.9, 0.2]]
    assert draw_one(falling).get_yscale() == "log"
    assert draw_one(falling, Panel("error", None, "val/error")).get_yscale() == "linear"
    assert draw_one([[5, 1, 0.1], [4, 1, 0.2]]).get_yscale() == "linear"
    assert draw_one([[100, 1, -0.1], [90, 9, 0.9]]).get_yscale() == "linear"


def test_fractions_are_never_cut_off() -> None:
    ends = robust_limits([[0.5, 0.501], [0.5, 0.502], [0.5, 0.503], [0.0, 0.99]], may_be_log=True)
    assert ends is not None
    assert ends.low <= 0.0
    assert ends.high >= 0.99
    assert not ends.outside


def test_a_metric_that_never_rose_is_shown_in_the_range_of_fractions() -> None:
    ends = robust_limits([[0.0, 0.0], [0.0]], may_be_log=False)
    assert ends is not None
    assert (ends.low, ends.high) == pytest.approx((-0.05, 1.05))


def test_seeds_that_end_early_leave_the_others_as_thin_lines() -> None:
    runs = [line([3, 2, 1, 0.5]), line([1, 2])]
    with styled():
        ax = draw_curves([Curve(runs, "#0072B2")], [LOSS], []).axes[0]
    assert sorted(map(y, ax.lines)) == [[2.0, 1.0, 0.5], [2.0, 2.0]]


@pytest.mark.parametrize(
    ("rates", "cuts"),
    [
        ([1, 1, 1, 0.1, 0.1, 0.01], [4, 6]),
        ([1, 0.9, 0.7, 0.4, 0.1], []),  # a cosine
        ([0.1, 0.5, 1, 1, 1], []),
        ([1, 1, 1, 0.95, 0.95], []),
        ([1], []),
    ],
)
def test_cuts_of_the_learning_rate(rates: list[float], cuts: list[int]) -> None:
    assert rate_cuts([{"epoch": i, "lr": lr} for i, lr in enumerate(rates, 1)]) == cuts


def test_cuts_are_marked(tmp_path: Path) -> None:
    phase = first_phase(tmp_path, seeds=[0])
    ax = panel(drawn(curves_figure(phase, colours(phase))), "loss")
    marks = [it for it in ax.lines if it.get_marker() == "|"]
    assert len(marks) == 3
    assert {float(np.asarray(it.get_xdata())[0]) for it in marks} == {8.0}


def test_undefined_values_are_gaps() -> None:
    ax = draw_one([[2, math.nan, 1, math.inf]])
    assert y(ax.lines[0]) == [2.0, 1.0]

"""The part of a report that tells how a search went: what is drawn is what was asked and scored."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from phasewise.report.content import Figure as ReportFigure
from phasewise.report.content import Section, Table, Text
from phasewise.report.figures.search import Scale, best_so_far
from phasewise.report.figures.style import styled
from phasewise.report.report import write_report
from phasewise.report.sections.search import search_section
from phasewise.report.view import StudyView
from phasewise.study.journal import OutOfHours, SearchPlan
from phasewise.study.read import read_study
from phasewise.study.space import read_space
from tests.phasewise.study.synthetic import Settings, Synthetic

RATES = (1e-3, 2e-5, 3e-2, 7e-4, 9e-3, 4e-4)
SPACE = read_space(["optimizer.lr=tag(log,interval(1e-5,1e-1))", "model.activation=relu,gelu"])


def score(settings: Settings, seed: int) -> float | str:
    """Best at 7e-4; 3e-2 diverges."""
    lr = settings.get("optimizer.lr", 1e-3)
    return "diverged" if lr == 3e-2 else 0.6 - abs(math.log10(lr / 7e-4)) / 10 + 0.001 * seed


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """Six trials in the order of RATES, of which the first is the incumbent."""
    words = f"optimizer.lr={','.join(map(str, RATES))}"
    made = Synthetic(phases={"rate": words}, score=score, seeds=(0, 1))
    journal = made.write(tmp_path)
    (phase,) = journal.phases
    phase.kind, phase.declared = "search", {"model.activation": ["relu", "gelu"]}
    phase.search = SearchPlan(
        "tpe", 9, 2, 3, library="optuna 5.0.0", space=SPACE.dimensions, ended="its time was up"
    )
    phase.search.repeated = 2
    phase.out_of_hours = OutOfHours("study.max_hours", 8, 8.125, ["rate/x", "rate/y"])
    journal.write()
    return tmp_path


def section_of(directory: Path) -> Section:
    found = search_section(StudyView(read_study(directory)).phases[0])
    assert found is not None
    return found


def drawn(section: Section, name: str) -> Figure:
    (found,) = [it for it in section.blocks if isinstance(it, ReportFigure) and it.name == name]
    with styled():
        figure = found.draw()
        figure.canvas.draw()
    return figure


def test_what_was_asked_and_why_for_no_more(searched: Path) -> None:
    (text,) = [it.text for it in section_of(searched).blocks if isinstance(it, Text)]
    assert text == (
        "5 of 9 trials were asked of TPE (tree-structured Parzen estimator), the first 3 of them "
        "at random, 2 at a time (seed 0, optuna 5.0.0). Without a result: 1; the sampler was told "
        "the worst one for them. 2 times it asked for what had been tried, and was told the result "
        "again. It ended there: its time was up."
    )


def test_the_space_with_what_was_found_there(searched: Path) -> None:
    (table,) = [it for it in section_of(searched).blocks if isinstance(it, Table)]
    rows = {row[0]: list(row[1:]) for row in table.rows}
    assert rows == {
        "optimizer.lr": ["1e-05 to 0.1", "logarithmic", "0.001", "0.0007", "0.0007"],
        "model.activation": ["relu, gelu", "choices", "relu", "relu", "relu (1)"],
    }


def test_the_best_so_far_only_rises(searched: Path) -> None:
    figure = drawn(section_of(searched), "search_1_rate")
    line = next(it for it in figure.axes[0].lines if len(it.get_xdata()) > 2)
    means = [0.6 - abs(math.log10(lr / 7e-4)) / 10 + 0.0005 for lr in RATES]
    means[2] = -math.inf
    assert np.allclose(line.get_ydata(), np.maximum.accumulate(means))


def test_the_best_so_far_of_what_is_to_fall() -> None:
    scores = np.array([math.nan, 3.0, 4.0, math.nan, 1.0])
    with styled():
        figure = best_so_far({"": scores}, "min", "val/loss", at_random=1, incumbent=True)
    line = next(it for it in figure.axes[0].lines if len(it.get_xdata()) > 2)
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == [3.0, 3.0, 3.0, 1.0]


def test_a_key_is_drawn_on_the_scale_on_which_it_was_searched(searched: Path) -> None:
    figure = drawn(section_of(searched), "slices_1_rate")
    (ax,) = figure.axes  # activation was the same everywhere
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "lr")
    dots = ax.collections[0].get_offsets()
    assert np.allclose(np.asarray(dots)[:, 0], [lr for lr in RATES if lr != 3e-2])
    assert "$" not in "".join(label.get_text() for label in ax.get_xticklabels())
    share = Scale("lr", 1e-5, 1e-1, log=True).share(np.array([1e-5, 1e-3, 1e-1]))
    assert np.allclose(share, [0, 0.5, 1])


def test_the_report_has_it_and_says_that_time_was_up(searched: Path, undrawn: None) -> None:
    text = write_report(searched).with_name("report.md").read_text()
    assert "### Search" in text
    assert "### Values" not in text
    assert "2 trials were not run: no more trials begin, for they have taken 8.12 hours" in text
    assert "could not be made" not in text


def test_without_its_journal_it_is_reported_all_the_same(searched: Path, undrawn: None) -> None:
    (searched / "study.json").unlink()
    text = write_report(searched).with_name("report.md").read_text()
    assert "could not be made" not in text
    assert "### Search" not in text  # in which order it was asked is lost

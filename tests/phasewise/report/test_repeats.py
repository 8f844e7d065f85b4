"""What a report need not say twice, and in which order it says the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.records.history import Row
from phasewise.records.notes import Diagram, Notes
from phasewise.records.record import RunRecord
from phasewise.report.content import Figure, Table, Text
from phasewise.report.figures.front import trade_off
from phasewise.report.figures.scatter import Point
from phasewise.report.figures.style import Colours
from phasewise.report.sections.final import final_blocks
from phasewise.report.sections.overall import behaviour_section
from phasewise.report.sections.top import top_figure
from phasewise.report.sections.values import means_table
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, read_grid


def written(directory: Path, study: Synthetic) -> StudyView:
    study.write(directory)
    return StudyView(read_study(directory))


def test_scores_stand_in_the_order_of_what_matters(tmp_path: Path) -> None:
    def more(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.headline = ["pixel_acc", "mAP"]
        record.best |= {"val/mAP": 0.1, "val/pixel_acc": 0.9, "val/auc": 0.5, "val/zeta": 0.2}

    study = written(tmp_path, Synthetic(edit=more))
    (table,) = (one for one in final_blocks(study) if isinstance(one, Table))
    names = [row[0] for row in table.rows]
    first = ["val/mIoU", "val/pixel_acc", "val/mAP", "val/loss"]
    assert names == [*first, "val/auc", "val/zeta"]


@pytest.mark.parametrize(("seeds", "shown"), [([0, 1], True), ([0], False)])
def test_spread_over_settings_only_where_it_is_another_number(
    tmp_path: Path, seeds: list[int], shown: bool
) -> None:
    study = StudyView(read_grid(tmp_path, seeds=seeds))
    table = means_table(study.phases[0], study.frame)
    assert ("std over settings" in [one.title for one in table.columns]) == shown
    assert ("std over settings" in table.caption) == shown


def test_a_single_configuration_of_each_value_has_no_spread_over_settings(tmp_path: Path) -> None:
    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"]}))
    table = means_table(study.phases[0], study.frame)
    assert "std over settings" not in [one.title for one in table.columns]


def test_best_epochs_that_are_the_last_are_a_sentence(tmp_path: Path) -> None:
    def end(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.last = dict(record.best)
        record.last["val/mIoU"] = record.objective["value"]

    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"]}, edit=end))
    (one,) = top_figure(study.phases[0], Colours(study.swept))
    assert isinstance(one, Text)
    assert one.text.endswith("of all configurations, the last is the best.")


def test_phases_with_the_same_curves_share_a_figure(tmp_path: Path) -> None:
    def drawn(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        label = f"rate {settings.get('optimizer.lr', 1e-3)}"
        record.notes = Notes(diagrams=(Diagram("curves", label, "C.", {"x": [0, 1], "y": [0, 1]}),))

    words = "optimizer.lr=1e-4,1e-3 "
    phases = {"one": words + "a=1,2", "two": words + "b=1,2", "three": "optimizer.lr=1e-3,1e-2"}
    study = written(tmp_path, Synthetic(phases, lambda settings, seed: 0.5, edit=drawn))
    section = behaviour_section(study, Colours(study.swept))
    assert section is not None
    figures = [one for one in section.blocks if isinstance(one, Figure)]
    assert figures[0].name == "curves_1_one"
    captions = [one.caption for one in figures]
    assert captions[0] == "Phase 1: one (and the same in Phase 2: two). C."
    assert len(captions) == 2 and captions[1].startswith("Phase 3: three")


def test_numbers_of_neighbours_on_a_front_are_one_text() -> None:
    xs = [1.0, 0.999, 0.998, 0.9, 0.0]
    points = [Point(x, 1 - x, "#0072B2") for x in xs]
    figure = trade_off(points, range(5), ("a", "b"), (1.0, 1.0), {})
    assert [text.get_text() for text in figure.axes[0].texts] == ["1-3", "4", "5"]

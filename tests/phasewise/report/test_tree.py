"""What a report says of phases that are no chain."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.patches import FancyBboxPatch

from phasewise.report.content import Figure, Table, Text
from phasewise.report.figures.tree import WIDTH, Box, draw_tree
from phasewise.report.sections.tree import started_from, tree_blocks
from phasewise.report.sections.trials import trials_table
from phasewise.report.view import StudyView
from phasewise.study.journal import Branch, Journal
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import CLEAN, Synthetic


def view(directory: Path, change: str = "") -> StudyView:
    """Phases lr, activation, and both of them crossed; ``change`` says what is no chain."""
    both = "optimizer.lr=1e-3,1e-2 model.activation=relu,gelu"
    plan = Synthetic({**CLEAN, "both": both}).write(directory)
    if change == "from":
        plan.phases[1].source = plan.phases[2].source = "lr"
        plan.last, plan.last_reason = "activation", "val/mIoU 0.6 against 0.5 of both"
    if change == "per":
        plan.phases[2].per = "model.activation"
        _add_branches(plan)
    plan.write()
    return StudyView(read_study(directory))


def _add_branches(plan: Journal) -> None:
    phase = plan.phases[2]
    for level in ("relu", "gelu"):
        words = [one.overrides for one in phase.candidates]
        rows = [row for row, own in enumerate(words) if f"model.activation={level}" in own]
        # the score is best with .001
        best = next(row for row in rows if "optimizer.lr=0.001" in words[row])
        (other,) = {*rows} - {best}
        phase.branches.append(Branch(level, rows, other, best, "adopted"))


def test_a_chain_has_no_tree(tmp_path: Path) -> None:
    study = view(tmp_path)
    assert tree_blocks(study) == []
    assert all(started_from(study, phase) == [] for phase in study.phases)


def test_the_tree_and_why_it_ended_where_it_did(tmp_path: Path) -> None:
    study = view(tmp_path, "from")
    figure, text = tree_blocks(study)
    assert isinstance(figure, Figure)
    assert isinstance(text, Text)
    assert "winner of activation, the best of activation, both: val/mIoU 0.6 against" in text.text
    drawing = figure.draw()
    shown = [text.get_text() for text in drawing.axes[0].texts]
    assert [one for one in shown if one[:1].isdigit() and " " in one] == [
        *("1 lr", "2 activation", "3 both"),
    ]
    assert sum(one == "lr=0.001" for one in shown) == 1
    told = [block.text for phase in study.phases for block in started_from(study, phase)]  # type: ignore[union-attr]
    assert told == [
        "It started from the study's starting configuration.",
        *["It started from the winner of phase lr (lr=0.001)."] * 2,
    ]


def test_each_branch_has_a_row(tmp_path: Path) -> None:
    study = view(tmp_path, "per")
    phase = study.phases[2]
    text, table = started_from(study, phase)
    assert isinstance(text, Text)
    assert "once for each model.activation (relu, gelu)" in text.text
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["relu", "gelu"]
    assert table.marks == ["", "best"]
    for row, branch in zip(table.rows, phase.plan.branches, strict=True):
        assert (row[1], row[3]) == ("lr=0.01", "lr=0.001")
        assert branch.incumbent is not None
        assert branch.winner is not None
        first, last = (phase.candidates[it].mean for it in (branch.incumbent, branch.winner))
        assert (row[2], row[4]) == (first, last)
        assert row[5] == pytest.approx(last - first)
        assert row[5] > 0
    verdicts = [str(row[-1]) for row in trials_table(phase).rows]
    assert sum("best of relu" in one for one in verdicts) == 1
    assert sum("best of gelu" in one for one in verdicts) == 1


def test_boxes_lie_below_each_other_and_within_the_figure() -> None:
    boxes = [Box("start", "", [], None, 0, True)]
    words = "segmentation_head=unet activation=relu optimizer=adamw lr=0.001"
    boxes += [
        Box(f"{n} a name that is far too long to fit", "0.1234", [words, "x" * 90], n - 1, n, n < 3)
        for n in range(1, 12)
    ]
    figure = draw_tree(boxes)
    shapes = [one for one in figure.axes[0].patches if isinstance(one, FancyBboxPatch)]
    assert len(shapes) == len(boxes)
    for one, other in pairwise(shapes):
        assert other.get_y() > one.get_y() + one.get_height()
        assert other.get_x() > one.get_x()
    assert all(one.get_x() + one.get_width() <= WIDTH for one in shapes)
    assert figure.get_size_inches()[0] * 96 <= 390
    shown = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert shown.count("lr=0.001") == 11, "words go on in another line"

from __future__ import annotations

from pathlib import Path

from phasewise.records.history import Row
from phasewise.records.notes import Diagram, Notes
from phasewise.records.record import RunRecord
from phasewise.report.content import Figure
from phasewise.report.figures.style import PALETTE, Colours
from phasewise.report.sections.overall import behaviour_section
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic

RATE, KIND = "optimizer.lr", "model.activation"


def drawn(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """Each activation has a curve, one of them another one beside it."""
    label = str(settings.get(KIND, "relu"))
    curves = {"x": [0.0, 1.0], label[:4] + " y": [1.0, 2.0], "both": [3.0, float(len(label))]}
    diagram = Diagram("curves", label, "Curves.", curves, log=("both",))
    record.notes = Notes(diagrams=(diagram,))


def figures(directory: Path, study: Synthetic) -> list[Figure]:
    study.write(directory)
    found = StudyView(read_study(directory))
    section = behaviour_section(found, Colours(found.swept))
    return [] if section is None else [one for one in section.blocks if isinstance(one, Figure)]


def test_different_curves_of_a_phase_are_drawn_over_each_other(tmp_path: Path) -> None:
    (one,) = figures(tmp_path, Synthetic(edit=drawn))
    assert one.name == "curves_2_activation"
    assert one.caption == "Phase 2: activation. Curves."
    drawing = one.draw()
    assert [ax.get_ylabel() for ax in drawing.axes] == ["relu y", "both", "gelu y", "leak y"]
    assert [len(ax.lines) for ax in drawing.axes] == [1, 3, 1, 1]
    assert drawing.axes[1].get_yscale() == "log"
    colours = [str(line.get_color()) for line in drawing.axes[1].lines]
    assert len({*colours}) == 3 and {*colours} <= {*PALETTE}


def test_the_same_curves_everywhere_are_not_drawn(tmp_path: Path) -> None:
    assert not figures(tmp_path / "a", Synthetic({"": CLEAN["lr"]}, edit=drawn))
    assert not figures(tmp_path / "b", Synthetic())


def test_the_key_that_tells_curves_apart_gives_the_colours(tmp_path: Path) -> None:
    values = f"{RATE}=1e-4,1e-3 {KIND}=relu,gelu"
    study = Synthetic({"": values}, lambda settings, seed: 0.5, edit=drawn)
    (one,) = figures(tmp_path, study)
    colours = Colours({RATE: [1e-4, 1e-3], KIND: ["relu", "gelu"]})
    found = [line.get_color() for line in one.draw().axes[1].lines]
    assert found == [colours.of(KIND, "relu"), colours.of(KIND, "gelu")]

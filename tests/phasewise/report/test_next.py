"""The sections on what a study asked itself, and on what it leaves open."""

from __future__ import annotations

from pathlib import Path

from phasewise.report.content import Bullets, Table, Text
from phasewise.report.figures.style import Colours
from phasewise.report.sections.next import next_section, rounds_section
from phasewise.report.sections.phases import phase_section
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.analysis.auditing import LR
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, noise


def _rising(settings: Settings, seed: int) -> float:
    return 0.3 + 20 * settings[LR] + 0.001 * noise(settings, seed)


def _view(directory: Path) -> StudyView:
    return StudyView(read_study(directory))


def test_what_to_ask_next_is_shown_with_its_reason(tmp_path: Path) -> None:
    Synthetic({"rate": CLEAN["lr"]}, _rising, {}).write(tmp_path)
    section = next_section(_view(tmp_path), [])
    assert section is not None
    table = next(block for block in section.blocks if isinstance(block, Table))
    ((name, tries, seeds, why),) = table.rows
    assert (name, tries, seeds) == ("lr_beyond", f"{LR}=0.1,1.0", "0, 1, 2")
    assert str(why).startswith(f"the best {LR}, 0.01, is the largest of all that were tried")
    assert not any(isinstance(block, Bullets) for block in section.blocks)


def test_nothing_open_and_nothing_decided_are_no_section(tmp_path: Path) -> None:
    Synthetic().write(tmp_path / "clean")
    assert next_section(_view(tmp_path / "clean"), []) is None
    Synthetic(score=lambda settings, seed: "failed").write(tmp_path / "failed")
    assert next_section(_view(tmp_path / "failed"), []) is None
    assert rounds_section(_view(tmp_path / "clean")) is None


def test_rounds_are_shown_with_why_they_were_run(tmp_path: Path) -> None:
    plan = Synthetic(journal={"rounds_ended": "nothing is left to propose"}).write(tmp_path)
    plan.phases[1].round, plan.phases[1].why = 1, "somebody says so"
    plan.write()
    view = _view(tmp_path)
    section = rounds_section(view)
    assert section is not None
    table, text = section.blocks
    assert isinstance(table, Table) and isinstance(text, Text)
    ((number, name, why, winner, mean),) = table.rows
    assert (number, name, why) == (1, "activation", "somebody says so")
    assert winner == "activation=gelu"
    assert mean is not None and abs(float(mean) - 0.65) < 0.002
    assert text.text == "Why there was no other round: nothing is left to propose."
    shown = phase_section(view, view.phases[1], Colours(view.swept)).blocks
    assert Text("Why it was run: somebody says so.") in shown

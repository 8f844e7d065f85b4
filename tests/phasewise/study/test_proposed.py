"""The file that ``report.py --propose`` writes, by the command that it prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from phasewise.errors import UserError
from phasewise.report.proposals import write_proposals
from tests import forks
from tests.conftest import ROOT
from tests.forks import Done
from tests.phasewise.study.synthetic import Synthetic
from tests.phasewise.study.whole import call, make_app, study, write_study

PHASES: dict[str, Any] = {"rate": "optimizer.lr=1e-3,3e-3,1e-2"}


def propose(app: Path, *words: str) -> Done:
    return forks.engine().run([str(ROOT / "report.py"), "out", "--propose", *words], app)


def test_the_file_is_ready_to_run(tmp_path: Path) -> None:
    """It starts from the winner, with values that the schema allows, and each with its reason."""
    app = make_app(tmp_path)
    write_study(app, PHASES)
    assert study(app).returncode == 0
    done = propose(app)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    file = app / lines[0]
    phases = yaml.safe_load(file.read_text())["study"]["phases"]
    assert phases["lr_beyond"]["overrides"] == "optimizer.lr=0.03333,0.1111"
    assert [*phases][-2:] == ["longer", "seeds"]
    assert all(phase["reason"] in done.stdout for phase in phases.values())
    python, script, *words = shlex.split(lines[-1])
    assert (python, Path(script).name) == ("python", "train.py")
    plan = call(app, *words, "study.dry_run=true")
    assert plan.returncode == 0, plan.stderr
    assert "note: starts from the winner of" in plan.stdout
    assert "optimizer.lr=0.03333,0.1111" in plan.stdout
    again = propose(app)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    file.write_text(file.read_text() + "# mine\n")
    refused = propose(app)
    assert refused.returncode == 2
    assert "--propose FOLDER" in refused.stderr
    assert propose(app, "elsewhere").returncode == 0
    assert (app / "elsewhere/study" / file.name).is_file()


def test_what_cannot_be_proposed_for_is_told(tmp_path: Path) -> None:
    Synthetic(journal={"status": "running"}).write(tmp_path / "going_on")
    with pytest.raises(UserError, match="has not ended yet"):
        write_proposals(tmp_path / "going_on")
    Synthetic().write(tmp_path / "foreign")
    with pytest.raises(UserError, match="is no study of this project's scripts"):
        write_proposals(tmp_path / "foreign")
    Synthetic(score=lambda settings, seed: "failed").write(tmp_path / "failed")
    with pytest.raises(UserError, match="nothing to go on from"):
        write_proposals(tmp_path / "failed")

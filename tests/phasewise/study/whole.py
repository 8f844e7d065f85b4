"""Calls of an application whose job is study_toy.py, its studies, and what they leave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from phasewise.study.journal import Journal, read_journal
from tests import forks
from tests.forks import Done

ROOT = Path(__file__).parents[3]
APP = (
    'from phasewise.cli.main import main\n\nif __name__ == "__main__":\n    main("study_toy:run")\n'
)


def make_app(folder: Path) -> Path:
    """An application whose job is study_toy.py."""
    shutil.copy(Path(__file__).with_name("study_toy.py"), folder)
    (folder / "app.py").write_text(APP)
    return folder


def write_study(app: Path, phases: Any, **settings: Any) -> None:
    folder = app / "extra" / "study"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "defaults": [{"override /task": "multitask"}],
        "trainer": {"max_epochs": 4},
        "study": {"name": "toy", "phases": phases} | settings,
        "hydra": {"mode": "MULTIRUN", "sweep": {"dir": "out"}},
    }
    (folder / "toy.yaml").write_text(
        "# @package _global_\n" + yaml.safe_dump(content, sort_keys=False)
    )


def study(app: Path, *words: str, **environment: str) -> Done:
    report = [] if any("study.report" in word for word in words) else ["study.report=false"]
    name = () if any(word.startswith("study=") for word in words) else ("study=toy",)
    return call(app, "--config-dir", "extra", *name, *words, *report, **environment)


def call(app: Path, *words: str, **environment: str) -> Done:
    return forks.engine().run(["app.py", *words], app, environment)


def journal(app: Path) -> Journal:
    found = read_journal(app / "out")
    assert found is not None
    return found


def winners(app: Path) -> dict[str, list[str] | None]:
    return {
        phase.name: None if phase.winner is None else phase.candidates[phase.winner].overrides
        for phase in journal(app).phases
        if phase.kind != "test"
    }


def calls(app: Path) -> dict[str, str]:
    return {
        str(path.parent.relative_to(app / "out")): path.read_text()
        for path in sorted(app.glob("out/**/calls"))
    }


def runs(app: Path) -> list[Path]:
    return sorted(path.parent for path in (app / "out").rglob("record.json"))


def results(app: Path) -> dict[str, str]:
    """Everything that a reader of the study sees."""
    out = app / "out"
    files = [*out.rglob("metrics.csv"), *out.rglob("sweep.csv"), *out.rglob("record.json")]
    found = {str(path.relative_to(out)): path.read_text() for path in files}
    return found | {"study.json": (out / "study.json").read_text()}

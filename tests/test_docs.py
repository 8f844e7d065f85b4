"""Every command of README.md and the pages is one that the scripts take.

Here it is read and checked as its script would, up to the moment before it computes; ``python -m
tests.docs`` really runs it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from phasewise.cli import main as cli
from phasewise.config.choices import tasks_of
from phasewise.config.defaults import composed
from phasewise.config.help import config_groups
from phasewise.inference.evaluation.settings import EvaluationSettings
from phasewise.inference.exporting.settings import ExportSettings
from phasewise.inference.prediction.settings import PredictionSettings
from phasewise.report import command as report
from tests.conftest import ROOT
from tests.documented import (
    Command,
    commands,
    example,
    place_files,
    value,
    write_named_files,
)

NOT_OURS = {
    ("source", ".venv/bin/activate"): "a file of Python's",
    ("tensorboard", "--logdir", "outputs"): "another program, without an end",
    ("pip", "install", "phasewise"): "from an index where it is not yet",
}
NOT_OURS |= {
    it.words: "of somebody's application: tests/phasewise/study/test_any_application.py has one"
    for it in commands()
    if it.words[:2] == ("python", "app.py")
}
FORMS = {
    ("python", "train.py", "-m", "KEY=A,B"): "how such a command looks",
    ("python", "train.py", "-m"): "the same: `python train.py -m ...`",
    ("python", "train.py", "--config-dir", "outputs/STUDY", "preset=final"): (
        "tests/phasewise/report/test_configuration.py runs it with the file that a report writes"
    ),
}
"""Commands that nothing here can check, and why."""

COMMANDS = [
    it for it in {it.words: it for it in commands()}.values() if it.words not in NOT_OURS | FORMS
]
OF_SCRIPT = {
    name: [it for it in COMMANDS if it.script == name] for name in {c.script for c in COMMANDS}
}


def nothing(config: DictConfig) -> float:
    """What ``train.py`` runs here."""
    return 0.0


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; afterwards the process is as it was."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    root, handler = logging.getLogger(), signal.getsignal(signal.SIGTERM)
    before = [*root.handlers], root.level
    with patch.dict(os.environ):
        yield folder
    root.handlers, root.level = before
    signal.signal(signal.SIGTERM, handler)
    HydraConfig.instance().cfg = None


def test_all_kinds_of_commands_are_known() -> None:
    """Whatever else a page says belongs on one of the lists above, with a reason."""
    known = {"train.py", "evaluate.py", "predict.py", "export.py", "report.py", "make", "pip"}
    others = [it for it in COMMANDS if it.script not in known]
    assert all(it.script.startswith("benchmarks/") for it in others), others
    assert all((ROOT / it.script).is_file() for it in others)
    assert len(OF_SCRIPT["train.py"]) > 25
    assert {"evaluate.py", "predict.py", "export.py", "report.py"} <= set(OF_SCRIPT)


def exit_code(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main(f"{__name__}:nothing")
    return int(stop.value.code or 0)


@pytest.mark.parametrize("command", OF_SCRIPT["train.py"], ids=str)
def test_train(
    command: Command,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Composed and checked by the command line itself; of sweeps and studies all trials are."""
    words = command.arguments
    place_files(words, workplace)
    write_named_files(workplace)
    if value(words, "study") == "mine":
        (workplace / "own" / "study").mkdir(parents=True, exist_ok=True)
        (workplace / "own" / "study" / "mine.yaml").write_text(example("README.md"))
        words += ["--config-dir", "own"]
    several = "-m" in words or (value(words, "study") and value(words, "hydra.mode") != "RUN")
    if several and "study.dry_run=true" not in words:
        words.append("study.dry_run=true")
    code = exit_code(words, monkeypatch)
    out, err = capsys.readouterr()
    if value(words, "hydra/sweeper") == "optuna" and not optuna_is_here():
        assert (code, "pip install -e '.[optuna]'" in err) == (2, True)
        return
    assert (code, err) == (0, "")
    if several:
        assert "trial" in out


def optuna_is_here() -> bool:
    return any("optuna" in it.__module__.lower() for it in Plugins.instance().discover(Sweeper))


@pytest.mark.parametrize("command", OF_SCRIPT["evaluate.py"] + OF_SCRIPT["export.py"], ids=str)
def test_evaluate_and_export(command: Command) -> None:
    kind = EvaluationSettings if command.script == "evaluate.py" else ExportSettings
    if command.arguments == ["--help"]:
        assert "checkpoint" in kind.help_text()
        return
    _, words = kind.parse(command.arguments)
    if data := value(words, "data"):
        conf = ROOT / "conf"
        tasks = tasks_of(conf / "data" / f"{data}.yaml", config_groups(conf)["task"])
        composed([f"task={tasks[0]}", *words])
    else:
        assert not words


@pytest.mark.parametrize("command", OF_SCRIPT["predict.py"], ids=str)
def test_predict(command: Command) -> None:
    if command.arguments == ["--help"]:
        assert "checkpoint" in PredictionSettings.help_text()
    else:
        PredictionSettings.parse(command.arguments)


@pytest.mark.parametrize("command", OF_SCRIPT["report.py"], ids=str)
def test_report(command: Command) -> None:
    report._parser().parse_args(command.arguments)


@pytest.mark.parametrize("command", OF_SCRIPT["make"], ids=str)
def test_make(command: Command) -> None:
    (target,) = command.arguments
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", OF_SCRIPT["pip"], ids=str)
def test_pip(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    *install, what = command.arguments
    assert install == ["install", "-e"]  # a copy would be older than the checkout after an edit
    extras = what.removeprefix(".[").removesuffix("]").split(",")
    assert project["optional-dependencies"].keys() >= set(extras)

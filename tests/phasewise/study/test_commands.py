"""Commands that are printed can be pasted, whatever the folders are called."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from phasewise.cli.shell import path_override, relative_path, shell_command
from phasewise.records.record import read_record
from phasewise.report.report import write_report
from phasewise.study.commands import single_run
from tests.phasewise.study.whole import APP, ROOT, write_study

ODD = "it's [x], c=1 & $HOME"


def paste(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a printed line."""
    assert line.startswith("python ")
    line = shlex.quote(sys.executable) + line.removeprefix("python")
    settings = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An application in a folder with a name of its own, and its study in another."""
    folder = tmp_path / "my study, [a]=b"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("study_toy.py"), folder)
    (folder / "app.py").write_text(APP)
    write_study(folder, {"rate": "optimizer.lr=1e-2,1e-3"})
    (folder / "extra").rename(folder / ODD)
    return folder


@pytest.mark.slow
def test_commands_of_a_study_in_a_folder_of_ones_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config-dir", ODD, "study=toy", "study.report=false"]
    done = paste(shell_command("app.py", words), place)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(place)
    page = write_report("out").with_name("report.md").read_text()
    final = read_record(place / "out/rate/optimizer.lr=0.01,seed=0")
    assert final is not None
    printed = re.findall("as a single run: (.+)", done.stdout)
    printed += re.findall("^    (python app.py.+)", page, re.MULTILINE)
    assert len(printed) == 2
    for number, line in enumerate(printed):
        again = paste(f"{line} hydra.run.dir=alone{number}", place)
        assert again.returncode == 0, again.stderr
        record = read_record(place / f"alone{number}")
        assert record is not None and record.is_of(final.fingerprint)
        assert record.objective == final.objective


def test_what_the_files_of_a_run_tell(tmp_path: Path) -> None:
    def saved(**runtime: object) -> Path:
        folder = tmp_path / ".hydra"
        folder.mkdir(exist_ok=True)
        content = {"runtime": runtime, "job": {"name": "train", "config_name": "other"}}
        (folder / "hydra.yaml").write_text(yaml.safe_dump({"hydra": content}))
        return tmp_path

    main = {"path": str(ROOT / "conf"), "schema": "file", "provider": "main"}
    script = relative_path(ROOT / "train.py")
    line = single_run(saved(config_sources=[main]), ["study=demo", "seed=1"])
    words = ["--config-name", "other", "study=demo", "seed=1", "hydra.mode=RUN"]
    assert shlex.split(line) == ["python", script, *words]
    line = single_run(saved(config_sources=[main | {"path": str(tmp_path)}]), ["a='b c'"])
    words = ["--config-path", str(tmp_path), "--config-name", "other", "a='b c'"]
    assert shlex.split(line) == ["python", script, *words]
    assert shlex.split(single_run(tmp_path / "none", ["a=1"])) == ["python", script, "a=1"]


@pytest.mark.parametrize("name", ["plain/a-1.b", "a b", "a,b", "[a]", "a=b", "it's", 'a"b', "ä"])
def test_hydra_reads_a_path_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    word = path_override("hydra.run.dir", tmp_path / name)
    assert OverridesParser.create().parse_override(word).value() == name
    assert path_override("k", Path("/elsewhere") / "a").endswith("=/elsewhere/a")

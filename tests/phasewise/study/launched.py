"""Calls of an application whose job is launcher_toy.py, and what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
APP = (
    "from phasewise.cli.main import main\n\n"
    'if __name__ == "__main__":\n    main("launcher_toy:run")\n'
)
PHASES = {
    "rate": "optimizer.lr=1e-1,1e-2",
    "halved": {
        "overrides": "model.dropout_rate=.1,.2",
        "halving": {"epochs": 1, "factor": 2},
        "seeds": [1],
    },
}


def make_app(folder: Path) -> Path:
    """An application whose job is launcher_toy.py, with the studies ``short`` and ``long``."""
    for name in ("launcher_toy.py", "study_toy.py"):
        shutil.copy(Path(__file__).with_name(name), folder)
    (folder / "app.py").write_text(APP)
    studies = folder / "extra" / "study"
    studies.mkdir(parents=True)
    for name, phases in (("short", {"rate": PHASES["rate"]}), ("long", PHASES)):
        content = {
            "defaults": [{"override /task": "multitask"}],
            "trainer": {"max_epochs": 2},
            "study": {"name": name, "phases": phases},
            "hydra": {"mode": "MULTIRUN"},
        }
        text = yaml.safe_dump(content, sort_keys=False)
        (studies / f"{name}.yaml").write_text(f"# @package _global_\n{text}")
    return folder


def start(app: Path, *words: str, out: str = "out", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "app.py", *words, f"hydra.sweep.dir={out}", "study.report=false"]
    settings = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment
    return subprocess.Popen(
        command,
        cwd=app,
        env={name: value for name, value in settings.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def call(
    app: Path, *words: str, out: str = "out", **environment: str
) -> subprocess.CompletedProcess[str]:
    with start(app, *words, out=out, **environment) as process:
        try:
            told, errors = process.communicate(timeout=150)
        finally:
            process.kill()
    return subprocess.CompletedProcess(words, process.returncode, told, errors)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """What was computed where."""
    found = {}
    for path in sorted(folder.glob("**/record.json")):
        content = json.loads(path.read_text())
        found[str(path.parent.relative_to(folder))] = content
    return found


def left(session: int) -> list[str]:
    """What still lives of the processes that a call started; a zombie does not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def soon(condition: Callable[[], object], seconds: float = 40.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True

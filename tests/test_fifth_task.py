"""docs/your-own.md: its code runs, beside a copy of the project, through the real scripts."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from PIL import Image

from phasewise.config.command_line import CommandLine
from tests.phasewise.training.directory import record_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your-own.md"
BLOCK = re.compile(r"^`([\w./]+)`\n\n```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`([\w/]+\.(?:py|yaml)):(\w+)`")

SHARED = ("phasewise", "conf", "hydra_plugins")
SCRIPTS = ("train.py", "evaluate.py", "report.py")
END = "exit code"
COMMANDS = f"""
import os, runpy, sys
import phasewise.training.trainer, phasewise.inference.restore
for words in map(str.split, sys.stdin):
    if not (child := os.fork()):
        sys.argv = words
        sys.exit(runpy.run_path(words[0], run_name="__main__"))
    status = os.waitpid(child, 0)[1]
    # after a line of its own, whatever the script's last one ended with
    print("", "{END}", os.waitstatus_to_exitcode(status), sep="\\n", flush=True)
"""
"""Runs the scripts that are named on its input as ``python`` would, each in a process."""

TINY = (
    "data.image_size=32",
    "data.batch_size=4",
    "trainer.max_epochs=1",
    "model.backbone=test_resnet",
    "figures.images=2",
)
DRAWN = (
    "task=classification",
    *TINY,
    "data.train_images=8",
    "data.val_images=4",
    "data.test_images=4",
)


def blocks() -> Iterator[tuple[str, bool, str]]:
    """File, whether it is a change of a file that is there, text."""
    for name, language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        yield name, language == "diff", text


def patched(text: str, diff: str) -> str:
    """A file with a diff of the page applied, whose hunks must each fit in one place."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.rstrip("\n").split("\n")
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the project shares and its localization, with all that the page adds; no other task."""
    root = tmp_path_factory.mktemp("project")
    for name in (*SHARED, "localization", "tests/localization"):
        shutil.copytree(ROOT / name, root / name)
    for name in SCRIPTS:
        shutil.copy2(ROOT / name, root)
    for name, is_change, text in blocks():
        path = root / name
        assert path.exists() == is_change, name
        path.parent.mkdir(exist_ok=True)
        new = patched(path.read_text(encoding="utf-8"), text) if is_change else text
        path.write_text(new, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def call(project: Path) -> Iterator[Callable[..., str]]:
    """What a command prints; it must succeed. What takes long to import is imported once."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:

        def answer(*words: str) -> str:
            assert server.stdin is not None
            assert server.stdout is not None
            print(*words, file=server.stdin, flush=True)
            lines = list(takewhile(lambda line: not line.startswith(END), server.stdout))
            lines.append(server.stdout.readline())
            assert lines.pop() == "0\n", "".join(lines)
            return "".join(lines)

        yield answer


def test_the_fifth_task_is_one_folder_and_one_file() -> None:
    tasks = {path.stem for path in (ROOT / "conf" / "task").glob("*.yaml")}
    files = [Path(name) for name, is_change, _ in blocks() if not is_change]
    (task,) = {file.stem for file in files if file.parts[:2] == ("conf", "task")}
    assert task not in tasks
    ours = [file for file in files if task in file.parts or task == file.stem]
    assert {file.parent.as_posix() for file in ours} == {task, "conf/task"}
    assert len(files) == len(ours) + 3  # and the reader, with its config, and a head


def test_the_fifth_task_trains_sweeps_and_is_evaluated(
    project: Path, call: Callable[..., str]
) -> None:
    call("train.py", *DRAWN, "hydra.run.dir=run")
    record = record_of(project / "run")
    assert record.status == "completed"
    assert record.task == "classification"
    assert 0 <= record.test["test/accuracy"] <= 1
    assert record.baselines["most_frequent"].keys() == {"val/accuracy", "test/accuracy"}
    assert {path.stem for path in (project / "run/figures").iterdir()} >= {"best", "test_worst"}

    # as from before a key was there: it has its default, also where data lie in the task's file
    checkpoint = project / "run/checkpoints/best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    del content["phasewise"]["config"]["data"]["refit"]
    torch.save(content, checkpoint)
    told = call("evaluate.py", "checkpoint=run", "figures=0")
    assert "equal to the run's record to 1e-06" in told
    found = json.loads((project / "run/evaluation/test/evaluation.json").read_text())
    assert found["figures"]["test/accuracy"]["value"] == record.test["test/accuracy"]

    values = "model.dropout_rate=0.0,0.5"
    call("train.py", "-m", *DRAWN, values, "hydra.sweep.dir=sweep")
    with (project / "sweep/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["model.dropout_rate"] for row in rows) == ["0.0", "0.5"]
    assert "status" not in rows[0]  # a column for those that did not complete
    assert "most_frequent" in (project / "sweep/report.html").read_text(encoding="utf-8")


def test_the_reader_and_the_head_train(project: Path, call: Callable[..., str]) -> None:
    data = project / "yolo"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (40, 20), (20 * i, 90, 90)).save(data / f"images/{i:02}.png")
        (data / f"labels/{i:02}.txt").write_text("3 0.5 0.5 0.1 0.1\n7 0.5 0.25 0.5 0.5\n")
    (data / "labels/00.txt").write_text("3 0.5 0.5\n")
    (data / "labels/01.txt").unlink()
    call(
        "train.py",
        "task=localization",
        "data=yolo",
        "data.root=yolo",
        "data.on_bad=skip",
        "model.head={_target_:mine.heads.MaxHead,dropout:0.2}",
        *TINY,
        "hydra.run.dir=boxes",
    )
    record = record_of(project / "boxes")
    assert record.status == "completed"
    assert sum(record.data["counts"].values()) == 10
    assert {(it["file"], it["reason"]) for it in record.data["rejected"]} == {
        ("labels/00.txt", "'3 0.5 0.5' is not class, x, y, width, height"),
        ("labels/01.txt", "no such file in data.root"),
    }
    assert record.baselines["mean_box"]["val/IoU"] == pytest.approx(1)  # all the same, the largest


def test_the_commands_of_the_page_compose(project: Path) -> None:
    found = re.findall(r"^python train.py (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 7
    with initialize_config_dir(str(project / "conf"), version_base="1.3"):
        for words in (shlex.split(line, comments=True) for line in found):
            typed = [word for word in words if "=" in word]
            line = CommandLine(typed, project / "conf", "config")
            cfg, sweep = line.compose("-m" in words)
            assert sweep == ("-m" in words)
            assert (cfg.task.name == "classification") == ("task=classification" in words)


def test_every_place_that_the_page_names_is_there() -> None:
    places = PLACE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(places) > 30
    for file, name in places:
        text = (ROOT / file).read_text(encoding="utf-8")
        pattern = rf"^\s+{name}:" if file.endswith("yaml") else rf"^(class |def )?{name}\b"
        assert re.search(pattern, text, re.MULTILINE), f"{file}:{name}"

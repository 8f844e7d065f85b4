"""docs/your-own.md: its code runs, in a folder elsewhere, through the real scripts."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import forks
from tests.conftest import ROOT
from tests.forks import Done
from tests.phasewise.training.directory import record_of

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "your-own.md"
BLOCK = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`([\w/]+\.(?:py|yaml)):(\w+)`")

CONF = ("--config-dir", "mine/conf")
TINY = (
    "data.image_size=32",
    "data.batch_size=4",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "model.backbone=test_resnet",
    "figures.images=2",
)
DRAWN = (
    "task=shapes3",
    *TINY,
    "data.train_images=8",
    "data.val_images=4",
    "data.test_images=4",
)

Call = Callable[..., Done]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's own, with all that the page has."""
    folder = tmp_path_factory.mktemp("home")
    for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        assert name.startswith("mine/"), name  # no file of the project is edited
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def call(home: Path) -> Call:
    """What a script does there."""

    def run(script: str, *words: str) -> Done:
        environment = {"PYTHONPATH": str(home)}
        return forks.training().run([str(ROOT / script), *words], home, environment)

    return run


@pytest.fixture(scope="module")
def works(call: Call) -> Callable[..., str]:
    """What a command prints; it must succeed."""

    def run(*words: str) -> str:
        done = call(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def boxes(home: Path, works: Callable[..., str]) -> Path:
    """A run with a reader, an augmentation, a head and a loss of the page."""
    data = home / "yolo"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (40, 20), (20 * i, 90, 90)).save(data / f"images/{i:02}.png")
        (data / f"labels/{i:02}.txt").write_text("3 0.5 0.5 0.1 0.1\n7 0.5 0.25 0.5 0.5\n")
    (data / "labels/00.txt").write_text("3 0.5 0.5\n")
    (data / "labels/01.txt").unlink()
    works(
        "train.py",
        *CONF,
        "task=localization",
        "data=shares",
        "data.root=yolo",
        "data.on_bad=skip",
        "data.augment=[flip,{_target_:mine.fog.Fog,strength:0.3}]",
        "model.head={_target_:mine.heads.MaxHead,dropout:0.2}",
        "loss.name={_target_:mine.losses.Corners,weight:5.0}",
        *TINY,
        "hydra.run.dir=boxes",
    )
    return home / "boxes"


@pytest.fixture(scope="module")
def shapes(home: Path, works: Callable[..., str]) -> Path:
    """A run of the page's task."""
    works("train.py", *CONF, *DRAWN, "hydra.run.dir=shapes")
    return home / "shapes"


def test_parts_of_all_kinds_train_together(boxes: Path) -> None:
    record = record_of(boxes)
    assert record.status == "completed"
    assert sum(record.data["counts"].values()) == 10
    assert {(it["file"], it["reason"]) for it in record.data["rejected"]} == {
        ("labels/00.txt", "'3 0.5 0.5' is not class, x, y, width, height"),
        ("labels/01.txt", "no such file in data.root"),
    }
    assert record.baselines["mean_box"]["val/IoU"] == pytest.approx(1)  # all the same, the largest
    assert record.environment["targets"] == {
        "data.reader": "mine.shares.read_shares",
        "data.augment.1": "mine.fog.Fog",
        "model.head": "mine.heads.MaxHead",
        "loss.name": "mine.losses.Corners",
    }


def test_a_run_is_of_the_data_that_the_reader_read(
    boxes: Path, home: Path, works: Callable[..., str], call: Call
) -> None:
    words = shlex.split((boxes / ".hydra/overrides.yaml").read_text().replace("- ", ""))
    again = ("train.py", *CONF, *words, "hydra.run.dir=boxes")
    assert "holds this run already, completed" in works(*again)
    label = home / "yolo/labels/05.txt"
    before = label.read_text()
    label.write_text("3 0.5 0.5 0.1 0.1\n7 0.5 0.25 0.25 0.5\n")
    changed = call(*again)
    label.write_text(before)
    assert changed.returncode != 0
    assert "holds a run of other data" in changed.stderr
    assert "05.png" in changed.stderr


def test_its_checkpoint_runs_only_what_is_trusted_by_name(
    boxes: Path, home: Path, works: Callable[..., str], call: Call
) -> None:
    refused = call("evaluate.py", "checkpoint=boxes")
    assert refused.returncode == 2
    assert "(loss.name=mine.losses.Corners, model.head=mine.heads.MaxHead)" in refused.stderr
    assert "if you trust it: trust=[mine]" in refused.stderr
    assert "Traceback" not in refused.stderr
    parts = "trust=[mine.heads.MaxHead,mine.losses]"
    reader = call("evaluate.py", "checkpoint=boxes", parts)
    assert "(data.reader=mine.shares.read_shares)" in reader.stderr
    told = works("evaluate.py", "checkpoint=boxes", "trust=[mine]", "figures=0")
    assert "equal to the run's record to 1e-06" in told
    told = works("evaluate.py", "checkpoint=boxes", "trust=mine", "data.root=yolo", "split=val")
    assert "equal to the run's record to 1e-06" in told
    typo = call("evaluate.py", "checkpoint=boxes", "trust=[mine]", "data.rot=yolo")
    assert "data.rot: no such key; did you mean data.root?" in typo.stderr
    works("predict.py", "checkpoint=boxes", "source=yolo/images", "output=found", parts)
    assert len(json.loads((home / "found/predictions.json").read_text())["images"]) == 12
    assert "trust=[mine]" in call("export.py", "checkpoint=boxes", "format=torchscript").stderr
    words = ("format=torchscript", "images=yolo/images", "output=a.pt", parts)
    works("export.py", "checkpoint=boxes", *words)
    assert (home / "a.pt").is_file()


def test_the_task_trains_sweeps_and_is_evaluated(
    shapes: Path, home: Path, works: Callable[..., str], call: Call
) -> None:
    record = record_of(shapes)
    assert record.status == "completed"
    assert record.task == "shapes3"
    assert 0 <= record.test["test/accuracy"] <= 1
    assert record.baselines["most_frequent"].keys() == {"val/accuracy", "test/accuracy"}
    assert {path.stem for path in (shapes / "figures").iterdir()} >= {"best", "test_worst"}

    refused = call("evaluate.py", "checkpoint=shapes")
    assert "task.module=mine.shapes3.module.ClassificationModule" in refused.stderr
    assert "trust=[mine]" in refused.stderr
    told = works("evaluate.py", "checkpoint=shapes", "figures=0", "trust=[mine]")
    assert "equal to the run's record to 1e-06" in told
    found = json.loads((shapes / "evaluation/test/evaluation.json").read_text())
    assert found["figures"]["test/accuracy"]["value"] == record.test["test/accuracy"]
    works("export.py", "checkpoint=shapes", "format=torchscript", "trust=[mine]")
    loaded = torch.jit.load(str(shapes / "export/best.pt"))
    assert loaded(torch.zeros(2, 3, 32, 32))["logits"].shape == (2, 3)

    values = "model.dropout_rate=0.0,0.5"
    works("train.py", *CONF, "-m", *DRAWN, values, "hydra.sweep.dir=sweep")
    with (home / "sweep/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["model.dropout_rate"] for row in rows) == ["0.0", "0.5"]
    assert "status" not in rows[0]  # a column for those that did not complete
    assert "most_frequent" in (home / "sweep/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data.train_images=abc",), "data.train_images=abc: must be a whole number >= 1"),
        (("data.train_image=3",), "data.train_image: no such key; did you mean data.train_images?"),
        (("loss.label_smoothing=1.0",), "loss.label_smoothing=1.0: must be a number in [0, 1)"),
        (("objective.metric=val/acuracy",), "did you mean val/accuracy?"),
        (("model.dropout=0.1",), "model.dropout: no such key; did you mean model.dropout_rate?"),
    ],
)
def test_the_task_is_checked_by_its_own_schema(
    words: tuple[str, ...], told: str, call: Call
) -> None:
    done = call("train.py", *CONF, "task=shapes3", *words, "hydra.run.dir=wrong")
    assert done.returncode == 2
    assert told in done.stderr


def test_the_commands_of_the_page(boxes: Path, works: Callable[..., str]) -> None:
    """All words are known and fit; nothing is computed."""
    found = re.findall(r"^python train.py (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 15
    for line in found:
        words = shlex.split(line, comments=True)
        if "--help" in words:
            assert "data.train_images=240" in works("train.py", *words)
            continue
        words = [word.replace("PATH", "yolo").replace("weights.pth", "true") for word in words]
        if not any(word.startswith("init_from") for word in words):
            words += [
                "data.on_bad=skip",
                "study.dry_run=true",
                *(["-m"] if "-m" not in words else []),
            ]
            assert "trial" in works("train.py", *words)


def test_every_place_that_the_page_names_is_there() -> None:
    places = PLACE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(places) > 30
    for file, name in places:
        text = (ROOT / file).read_text(encoding="utf-8")
        pattern = rf"^\s+{name}:" if file.endswith("yaml") else rf"^(class |def )?{name}\b"
        assert re.search(pattern, text, re.MULTILINE), f"{file}:{name}"

"""``evaluate.py`` as people call it: all tasks, other data, and what people do wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from phasewise.inference.evaluation.command import main
from phasewise.inference.evaluation.data import open_data, with_data
from phasewise.inference.evaluation.measure import measure
from phasewise.inference.restore import restore
from phasewise.records.record import read_record
from tests import forks
from tests.conftest import ROOT, TINY_RUNS, called, twin

Run = Callable[[str], Path]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], cache: Path) -> Call:
    """The command in this process: exit code, output, errors."""

    return lambda *words: called(main, [*words, f"data.cache_dir={cache}"], capsys)


def index(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("task", TINY_RUNS)
def test_the_figures_of_the_record(
    task: str, split: str, tiny_run: Run, tmp_path: Path, call: Call
) -> None:
    words = [f"split={split}", f"output={tmp_path}", "resamples=200", "figures=1"]
    code, out, err = call(f"checkpoint={tiny_run(task)}", *words)
    assert code == 0, err
    record = read_record(tiny_run(task))
    assert record is not None and record.test is not None
    whole = record.test if split == "test" else record.best
    expected = {name: value for name, value in whole.items() if name.startswith(f"{split}/")}
    found = index(tmp_path)
    assert found["figures"].keys() == expected.keys()
    for name, value in expected.items():
        assert found["figures"][name]["value"] == pytest.approx(value, rel=1e-6, abs=1e-6), name
    assert "equal to the run's record to 1e-06" in out and "note:" not in out
    assert found["difference_from_record"] <= 1e-6
    for name, scores in found["baselines"].items():
        known = {key: value for key, value in record.baselines[name].items() if split in key}
        assert known == pytest.approx({k: scores[k] for k in known}, nan_ok=True), name
    assert found["baselines"].keys() == record.baselines.keys() - {"untrained"}
    items = found["bootstrap"]["items"]
    assert items == len(rows_of(tmp_path)) > 0
    assert all(
        value["low"] <= value["high"] for value in found["figures"].values() if "low" in value
    )
    main_figure = record.objective["metric"].replace("val/", f"{split}/")
    assert "low" in found["figures"][main_figure]
    assert main_figure in out and "95 % interval" in out
    assert any((tmp_path / "figures").glob("*.png"))


@pytest.mark.parametrize("task", TINY_RUNS)
def test_items_make_the_figures(task: str, tiny_run: Run, cache: Path) -> None:
    trained = restore(tiny_run(task))
    config = with_data(trained.config, [f"data.cache_dir={cache}", "data.batch_size=8"])
    data = open_data(config)
    data.setup()
    found = measure(trained.rebuilt(config), data, "test", "32-true")
    assert found.items is not None
    again = found.items.metrics(np.ones((1, len(found.items.rows))))
    bounded = {name for name in found.metrics if name.removeprefix("test/") in again}
    without = {name for name in found.metrics if "loss" in name or name.endswith("threshold")}
    assert bounded == found.metrics.keys() - without
    for name in bounded:
        value = again[name.removeprefix("test/")][0]
        assert value == pytest.approx(found.metrics[name], abs=1e-6, nan_ok=True), name


@pytest.mark.slow
def test_the_script_itself(tiny_run: Run, tmp_path: Path, cache: Path) -> None:
    """In a process of its own, from another folder."""
    words = [f"checkpoint={tiny_run('localization')}", f"data.cache_dir={cache}", "output=out"]
    command = [str(ROOT / "evaluate.py"), *words, "figures=0", "resamples=0"]
    done = forks.training().run(command, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert index(tmp_path / "out")["bootstrap"] is None
    assert not (tmp_path / "out" / "figures").exists()


@pytest.mark.slow
def test_several_runs_and_their_mean(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    runs = [tmp_path / name for name in ("lr=1,seed=0", "lr=1,seed=1")]
    shutil.copytree(tiny_run("localization"), runs[0])
    twin(runs[0], runs[1])
    named = f"checkpoint=[{runs[0]},{runs[1]}]"
    code, out, err = call(named, "resamples=50", "figures=0")
    assert code == 0, err
    whole = out.partition("mean of 2 runs; intervals over runs and items together")[2]
    one = index(runs[0] / "evaluation" / "test")["figures"]["test/IoU"]
    row = next(line.split() for line in whole.splitlines() if line.startswith("test/IoU"))
    assert row[1] == f"{one['value']:.4f}"
    assert row[2] == f"{one['low']:.4f}..{one['high']:.4f}"  # equal runs add nothing
    samples = np.loadtxt(runs[1] / "evaluation/test/resamples.csv", delimiter=",", skiprows=1)
    assert samples.shape[0] == 50
    code, _, err = call(named, f"output={tmp_path}")
    assert code == 2 and "output" in err and "is for one checkpoint" in err


def test_help(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert "checkpoint=PATH" in out and "resamples=1000" in out and "data=NAME" in out


@pytest.mark.slow
def test_results_lie_in_the_run(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("record.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        (run / name).write_bytes((tiny_run("localization") / name).read_bytes())
    quick = ("figures=0", "resamples=20")
    assert call(f"checkpoint={run}", *quick)[0] == 0
    assert index(run / "evaluation" / "test")["checkpoint"].endswith("best.ckpt")
    assert call(f"checkpoint={run}/checkpoints/last.ckpt", "split=val", *quick)[0] == 0
    assert index(run / "evaluation" / "val_last")["difference_from_record"] <= 1e-6


@pytest.mark.slow
def test_other_data(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    """Boxes of one's own, in another layout than that of training."""
    (tmp_path / "data").mkdir()
    lines = ["file,xmin,ymin,xmax,ymax,split"]
    for i in range(12):
        name = f"ü {i}.png"
        Image.new("RGB", (50, 40), (20 * i, 90, 60)).save(tmp_path / "data" / name)
        lines.append(f"{name},5,4,{20 + i},30,{('train', 'val', 'test')[i % 3]}")
    (tmp_path / "data" / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    other = ["data=csv", f"data.root={tmp_path}/data", "data.file=boxes.csv", "data.batch_size=3"]
    code, out, err = call(
        f"checkpoint={tiny_run('localization')}", *other, f"output={tmp_path}/out", "resamples=20"
    )
    assert code == 0, err
    assert [row["file"] for row in rows_of(tmp_path / "out")] == [
        f"ü {i}.png" for i in (2, 5, 8, 11)
    ]
    assert index(tmp_path / "out")["difference_from_record"] is None
    assert "record" not in out
    assert "note: these are not the test data of the run" in out
    (tmp_path / "data" / "boxes.csv").write_text("\n".join(lines).replace(",test", ",train"))
    code, _, err = call(f"checkpoint={tiny_run('localization')}", *other)
    assert (code, err) == (2, "evaluate.py: split=test: the data have none; val is there\n")


def test_a_changed_key_of_the_data_bites(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    checkpoint = f"checkpoint={tiny_run('segmentation')}"
    found = []
    for area in (1, 2000):  # the images have 1024 pixels
        words = [f"data.min_area={area}", f"output={tmp_path}/{area}", "figures=0", "resamples=0"]
        assert call(checkpoint, *words)[0] == 0
        found.append(index(tmp_path / str(area))["figures"]["test/objects"]["value"])
    assert found[0] > found[1] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "checkpoint: must be given: checkpoint=PATH"),
        ("checkpoint={run} splitt=val", "splitt: no such key; did you mean split?"),
        ("checkpoint={run} split=train", "split=train: not one of test, val"),
        ("checkpoint={run} resamples=-1", "resamples=-1: must be a whole number >= 0"),
        ("checkpoint={run} confidence=1.5", "confidence=1.5: must be a number in (0, 1)"),
        ("checkpoint={run} checkpoint={run}", "checkpoint is given twice"),
        ("{run}", "did you mean checkpoint="),
        ("checkpoint={run} --split=val", "no such flag; settings are KEY=VALUE"),
        ("checkpoint={run} data.batchsize=2", "no such key; did you mean data.batch_size?"),
        ("checkpoint={run} data.batch_size=0", "data.batch_size=0: must be a whole number >= 1"),
        ("checkpoint={run} data=animal", "did you mean animals?"),
        ("checkpoint={run} data=veri data.root=/tmp", "data=veri: belongs to task=reid"),
        ("checkpoint={run} data=csv", "data.root"),
        ("checkpoint={run} data=csv data.root=/nowhere", "no such folder"),
        ("checkpoint={run} data.image_size=64", "the network is built for the size"),
        ("checkpoint={run} data.augment=[flip]", "images are not augmented"),
        ("checkpoint={run} output={tmp}/file", "is not a folder"),
        ("checkpoint={run} accelerator=tpu", "accelerator=tpu: not one of auto, cpu, gpu, mps"),
    ],
)
def test_mistakes(words: str, told: str, tiny_run: Run, tmp_path: Path, call: Call) -> None:
    (tmp_path / "file").write_text("x")
    filled = words.format(run=tiny_run("localization"), tmp=tmp_path)
    code, _, err = call(*filled.split())
    assert code == 2
    assert told in err and err.startswith("evaluate.py: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tiny_run: Run, call: Call) -> None:
    code, _, err = call(f"checkpoint={tiny_run('localization')}", "accelerator=gpu")
    told = "accelerator=gpu: none here; auto takes what there is"
    assert (code, err) == (2, f"evaluate.py: {told}\n") or torch.backends.mps.is_available()


def test_data_with_other_classes(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.txt").write_text("x")
    folder = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (40, 40), (20 * i, 9, 9)).save(folder / "JPEGImages" / f"{i}.png")
        Image.new("L", (40, 40), 1).save(folder / "SegmentationClass" / f"{i}.png")
    (folder / "labels.txt").write_text("background\ncat\n")
    code, _, err = call(f"checkpoint={tiny_run('multitask')}", "data=voc", f"data.root={folder}")
    assert code == 2
    assert "the data have the classes background, cat, but the network was trained for" in err

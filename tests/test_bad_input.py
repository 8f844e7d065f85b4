"""What people do wrong: one message says what, where and what to do, and nothing is lost."""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from phasewise.errors import UserError
from phasewise.records.record import read_record
from phasewise.training.run import train
from tests import forks
from tests.conftest import ROOT, TINY
from tests.forks import Child
from tests.voc_folder import SIZE, VocFolder

LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
LAUGHS = f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]>'
STEALS = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
MOST_LINES = 25
TINY_VOC = [word for word in TINY if "_images" not in word]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_labels(voc: VocFolder) -> None:
    voc.mask("val-0").unlink()
    voc.xml("val-0").unlink()


def paint(voc: VocFolder, size: tuple[int, int] = SIZE, value: Any = 2, mode: str = "L") -> None:
    Image.new(mode, size, value).save(voc.mask("val-0"))


# What is done to a sample of a sound data set, and the line that tells it.
BAD_SAMPLES: dict[str, tuple[Callable[[VocFolder], object], str]] = {
    "a truncated JPEG": (
        lambda voc: cut(voc.image("val-0")),
        "JPEGImages/val-0.jpg: cannot be decoded: image file is truncated",
    ),
    "a text called .jpg": (
        lambda voc: voc.image("val-0").write_text("hello"),
        "JPEGImages/val-0.jpg: not an image (JPEG, PNG, BMP, WEBP, TIFF, GIF)",
    ),
    "an empty image": (
        lambda voc: voc.image("val-0").write_bytes(b""),
        "JPEGImages/val-0.jpg: the file is empty",
    ),
    "no labels": (without_labels, "JPEGImages/val-0.jpg: has neither a mask nor an annotation"),
    "a mask of another size": (
        lambda voc: paint(voc, size=(20, 20)),
        "SegmentationClass/val-0.png: the mask is 20x20, its image 40x20",
    ),
    "an unknown mask value": (
        lambda voc: paint(voc, value=77),
        "SegmentationClass/val-0.png: mask values 77 where each must be a class index 0..2 or 255",
    ),
    "a colour mask": (
        lambda voc: paint(voc, value=(9, 0, 0), mode="RGB"),
        "SegmentationClass/val-0.png: a mask in colour, where others hold class indices",
    ),
    "an unknown class": (
        lambda voc: voc.annotate("val-0", label="dgo"),
        "Annotations/val-0.xml: object 1 ('dgo'): unknown class; the nearest known is 'dog'",
    ),
    "a box outside": (
        lambda voc: voc.annotate("val-0", xmax=42),
        "Annotations/val-0.xml: object 1 ('dog'): x 11..42 lies outside the image 1..40",
    ),
    "an inverted box": (
        lambda voc: voc.annotate("val-0", ymax=3),
        "Annotations/val-0.xml: object 1 ('dog'): ymax=3 < ymin=5",
    ),
    "a coordinate that is no number": (
        lambda voc: voc.annotate("val-0", xmin="NaN"),
        "Annotations/val-0.xml: object 1 ('dog'): xmin is not finite",
    ),
    "no box": (
        lambda voc: voc.write_xml("val-0", "<object><name>dog</name></object>"),
        "Annotations/val-0.xml: object 1 ('dog'): no bndbox",
    ),
    "a billion laughs": (
        lambda voc: voc.write_xml("val-0", "<object><name>&l9;</name></object>", LAUGHS),
        "Annotations/val-0.xml: has a DTD or entities, which are refused",
    ),
    "an external entity": (
        lambda voc: voc.write_xml("val-0", "<object><name>&secret;</name></object>", STEALS),
        "Annotations/val-0.xml: has a DTD or entities, which are refused",
    ),
    "half an annotation": (
        lambda voc: cut(voc.xml("val-0")),
        "Annotations/val-0.xml: not XML: ",
    ),
    "a path that leads out": (
        lambda voc: voc.list("train", ["train-0", "train-1", "../voc/JPEGImages/train-2"]),
        "../voc/JPEGImages/train-2: leads out of data.root by '..' "
        "(listed in ImageSets/Main/train.txt)",
    ),
    "an absolute path": (
        lambda voc: voc.list("train", ["train-0", "train-1", "/etc/passwd"]),
        "/etc/passwd: an absolute path; it must be relative to data.root",
    ),
    "a name without an image": (
        lambda voc: voc.list("train", ["train-0", "train-1", "gone"]),
        "JPEGImages/gone: listed in ImageSets/Main/train.txt, but there is no such image",
    ),
}


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "voc")


@pytest.fixture
def voc_config(make_config: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    def make(root: Path, *words: str) -> DictConfig:
        cache = f"data.cache_dir={tmp_path / 'cache'}"
        return make_config("data=voc", *TINY_VOC, cache, f"data.root={root}", *words)

    return make


def told(cfg: DictConfig, directory: Path) -> list[str]:
    """The lines of the message that refuses a run, which its record repeats."""
    with pytest.raises(UserError) as caught:
        train(cfg, directory)
    record = read_record(directory)
    assert record is not None
    assert (record.status, record.error) == ("failed", str(caught.value))
    lines = str(caught.value).splitlines()
    assert len(lines) <= MOST_LINES
    return lines


# Data


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_a_bad_sample_is_told_or_left_out(
    voc: VocFolder, voc_config: Callable[..., DictConfig], tmp_path: Path, case: str
) -> None:
    spoil, line = BAD_SAMPLES[case]
    spoil(voc)
    first, reason, advice = told(voc_config(voc.root), tmp_path / "run")
    assert first == f"1 sample in data.root={voc.root} cannot be used:"
    assert reason.startswith(f"  {line}")
    assert len(reason) < 200
    assert advice == "mend or remove them, or train on the rest with data.on_bad=skip"


def test_many_bad_samples_are_one_message_and_all_in_the_record(
    tmp_path: Path, voc_config: Callable[..., DictConfig]
) -> None:
    voc = VocFolder(tmp_path / "voc", train=16)
    for i in range(12):
        spoil = (
            lambda name: cut(voc.image(name)),
            lambda name: voc.annotate(name, label="ufo"),
            lambda name: voc.mask(name).write_text("no mask"),
        )
        spoil[i % 3](f"train-{i}")
    lines = told(voc_config(voc.root), tmp_path / "refused")
    assert lines[0].startswith("12 samples in data.root=")
    assert len(lines) == 13
    assert lines[-2] == "  ... and 2 more"
    assert "record.json lists all" in lines[-1]
    assert "data.on_bad=skip" in lines[-1]
    refused = read_record(tmp_path / "refused")
    assert refused is not None
    assert len(refused.data["rejected"]) == 12
    metrics = []
    for name in ("decoded", "cached"):
        train(voc_config(voc.root, "data.on_bad=skip"), tmp_path / name)
        record = read_record(tmp_path / name)
        assert record is not None
        assert record.status == "completed"
        assert record.data["counts"] == {"train": 4, "val": 2, "test": 0}
        assert record.data["rejected"] == refused.data["rejected"]
        metrics.append(record.best)
    assert metrics[0] == metrics[1]
    assert np.isfinite(metrics[0]["train/loss"])


def test_an_empty_list_is_told(
    voc: VocFolder, voc_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    voc.list("train", [])
    lines = told(voc_config(voc.root), tmp_path / "run")
    assert "has no sample for train. Lists read: ImageSets/Main/train.txt" in lines[0]
    assert lines[1].startswith("List names there, one a line")


def test_a_wrong_root_is_told_with_the_right_one(
    voc: VocFolder, voc_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    lines = told(voc_config(tmp_path), tmp_path / "above")
    assert lines[0] == f"data.root={tmp_path} has no JPEGImages."
    assert lines[2] == f"That layout is in data.root={voc.root}"
    lines = told(voc_config(voc.root / "Annotations"), tmp_path / "below")
    assert "has no JPEGImages" in lines[0]
    assert lines[2].startswith("Move or link the images to JPEGImages, their XML files to Annot")
    for root in (voc.image("val-0"), tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"data.root=.*: no such folder"):
            voc_config(root)


def test_a_cache_that_cannot_be_is_told(
    voc: VocFolder, voc_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    file = voc.image("val-0")
    for cache in (file, file / "below"):
        (line,) = told(voc_config(voc.root, f"data.cache_dir={cache}"), tmp_path / "run")
        assert line.startswith(f"data.cache_dir={cache} cannot be written: Not a directory")
        assert "data.cache_dir=" in line.partition(";")[2]


# Weights


def test_weights_of_another_network_are_told(
    make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(3, 3)}, weights)
    (line,) = told(make_config(*TINY, f"model.pretrained={weights}"), tmp_path / "run")
    assert line.startswith(f"model.pretrained={weights}: these weights do not fit model.backbone=")


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("evil",)


def test_weights_cannot_run_code(
    make_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = make_config(*TINY, f"data.cache_dir={tmp_path / 'cache'}", "model.pretrained=false")
    weights = tmp_path / "weights.pth"
    torch.save(Evil(), weights)
    cfg.model.pretrained = str(weights)
    assert "weights" in told(cfg, tmp_path / "run")[0]
    assert not (tmp_path / "evil").exists()


# The command itself


class Result(NamedTuple):
    """What a finished process leaves."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(cache: Path, tmp_path: Path) -> Callable[..., Result]:
    """Run the real command in an empty folder, where its outputs go."""

    def run(*words: str) -> Result:
        done = forks.training().run([str(ROOT / "train.py"), *tiny(words, cache)], tmp_path)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def stopped(cache: Path, tmp_path: Path) -> Callable[..., Result]:
    """The same with a signal after a text on the console."""

    def run(*words: str, after: str, number: signal.Signals) -> Result:
        with start(words, cache, tmp_path) as child:
            while after not in (line := child.readline()):
                assert line, child.wait()
            child.signal(number)
            done = child.wait()
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def tiny(words: Sequence[str], cache: Path) -> list[str]:
    """The words of a tiny run, where others were not typed."""
    # the number of images is a setting of the drawn shapes only
    typed = {word.partition("=")[0] for word in words}
    kept = [word for word in TINY if "data=voc" not in words or "_images=" not in word]
    kept = [word for word in kept if word.partition("=")[0] not in typed]
    return [*kept, f"data.cache_dir={cache}", *words]


def start(words: Sequence[str], cache: Path, folder: Path) -> Child:
    line = [str(ROOT / "train.py"), *tiny(words, cache)]
    return forks.training().start(line, folder, pipe=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "optimizer=glob(x*)"), "optimizer=glob(x*): matches none of adam, adamw, amsgrad"),
        (("data=voc", "data.root=Größe"), "data.root=Größe: cannot be read from character 13 on"),
        (("hydra.run.dir=file",), "hydra.run.dir=file: "),
        (("data=voc", "data.root=nowhere"), "data.root=nowhere: no such folder"),
        (("optimizer._target_=torch.optim.NAdan",), "optimizer._target_=torch.optim.NAdan: "),
        (
            ("task.module._target_=os.system",),
            "task.module._target_=os.system: is no LightningModule",
        ),
        (("model.pretrained=gone.pth",), "model.pretrained=gone.pth: must be true, false or an "),
    ],
)
def test_what_is_refused_leaves_nothing(
    command: Callable[..., Result], tmp_path: Path, words: Sequence[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    result = command(*words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(f"train.py: {message}")
    assert len(result.err.splitlines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_advice_to_quote_a_name_works_in_a_shell(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    name = "it's 5\", Größe"
    (tmp_path / name).mkdir()
    err = command("data=voc", f"data.root={name}").err
    advised = re.search("quote such a text: (.*)", err)
    assert advised is not None
    (word,) = shlex.split(advised[1])
    assert f"data.root={name} has no JPEGImages" in command("data=voc", word).err


def test_another_runs_directory_stays_as_it_is(
    command: Callable[..., Result], make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    train(make_config(*TINY), tmp_path / "run", overrides=["seed=0"])
    (tmp_path / "run" / ".hydra").mkdir()
    result = command("hydra.run.dir=run", "seed=1")
    assert result.code == 2
    assert "run: holds a run of other settings (seed=0)" in result.err
    assert list((tmp_path / "run" / ".hydra").iterdir()) == []


def test_a_run_that_cannot_be_leaves_a_log_with_the_traceback_and_a_message_without(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    result = command("model.pretrained=weights.pth", "hydra.run.dir=run")
    assert result.code == 2
    assert result.err.startswith("train.py: model.pretrained=weights.pth: ")
    assert "Traceback" not in result.out + result.err
    assert "Traceback (most recent call last)" in (tmp_path / "run" / "run.log").read_text()


def test_divergence_is_told_and_is_no_success(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e12", "scheduler=none", "hydra.run.dir=run")
    result = command(*words, "trainer.gradient_clip_val=null", "trainer.max_epochs=3")
    assert result.code == 1
    first, last = result.err.splitlines()
    assert re.match(r"train.py: train/loss became (nan|inf) in epoch \d; a smaller opt", first)
    assert last == f"see {Path('run', 'run.log')}"


@pytest.mark.slow
def test_ctrl_c_tells_how_to_continue(stopped: Callable[..., Result], tmp_path: Path) -> None:
    words = ("trainer.max_epochs=2000", "data.augment=[flip, scale]")
    result = stopped(*words, after="epoch 2/", number=signal.SIGINT)
    assert result.code == 130
    first, line = result.err.splitlines()
    assert first == "train.py: interrupted; to continue:"
    assert shlex.split(line)[:2] == ["python", str(ROOT / "train.py")]
    assert "data.augment=[flip, scale]" in shlex.split(line)
    (directory,) = (tmp_path / "outputs" / "multitask").iterdir()
    place = directory.relative_to(tmp_path)
    assert shlex.split(line)[-1] == f"hydra.run.dir={place}"
    record = read_record(directory)
    assert record is not None
    assert (record.status, record.is_final) == ("interrupted", False)
    assert record.cost["epochs"] >= 2
    assert record.best["train/loss"] > 0


@pytest.mark.slow
def test_sigterm_stops_a_sweep_and_tells_how_to_continue(
    stopped: Callable[..., Result], tmp_path: Path
) -> None:
    words = ("-m", "optimizer.lr=1e-3,1e-2", "trainer.max_epochs=2000")
    result = stopped(*words, after="epoch 1/", number=signal.SIGTERM)
    assert result.code == 143
    first, line = result.err.splitlines()
    assert first == "train.py: interrupted; to continue:"
    (sweep,) = (tmp_path / "outputs" / "multitask").iterdir()
    assert shlex.split(line)[-1] == f"hydra.sweep.dir={sweep.relative_to(tmp_path)}"
    assert "unfinished" in result.out
    assert (sweep / "sweep.csv").exists()
    (record,) = (read_record(path.parent) for path in sweep.glob("*/record.json"))
    assert record is not None
    assert record.status == "interrupted"


def test_a_run_goes_on_when_nobody_reads_on(cache: Path, tmp_path: Path) -> None:
    with start(["hydra.run.dir=run", "trainer.max_epochs=3"], cache, tmp_path) as child:
        assert child.readline().startswith("data ")
        child.stdout.close()
        done = child.wait()
    assert (done.returncode, done.stderr) == (0, "")
    record = read_record(tmp_path / "run")
    assert record is not None
    assert (record.status, record.cost["epochs"]) == ("completed", 3)

"""``export.py`` as people call it: all tasks, all formats, and what cannot be exported."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import DictConfig
from PIL import ExifTags, Image
from torch import Tensor, nn

from phasewise.data.images import Resize, read_image
from phasewise.errors import RunFailedError, UserError
from phasewise.inference.exporting.check import batches, compare_outputs, drawn_images
from phasewise.inference.exporting.command import main
from phasewise.inference.exporting.formats import FORMATS, METADATA, Deployed, exporting
from phasewise.inference.prediction.command import main as predict
from phasewise.inference.restore import restore
from phasewise.study.winner import winning_run
from reid.attention import NonLocal
from reid.backbones import build_backbone
from tests.conftest import ROOT, TINY_RUNS, called
from tests.documented import example
from tests.predictors import untrained

pytestmark = pytest.mark.slow

Run = Callable[[str], Path]
Call = Callable[..., tuple[int, str, str]]

OUTPUTS = {
    "multitask": {"segmentation", "boxes", "scores"},
    "localization": {"boxes"},
    "segmentation": {"probabilities"},
    "reid": {"feature"},
}
SUFFIX = {"onnx": "onnx", "torchscript": "pt", "torch_export": "pt2"}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], cache: Path) -> Call:
    """The command in this process: exit code, output, errors."""

    return lambda *words: called(main, [*words, f"data.cache_dir={cache}"], capsys)


def metadata_of(file: Path) -> dict[str, Any]:
    """As users of a format read it."""
    if file.suffix == ".onnx":
        text = {it.key: it.value for it in onnx.load(str(file)).metadata_props}[METADATA]
        return json.loads(text)
    extra: dict[str, Any] = {METADATA: ""}
    if file.suffix == ".pt":
        torch.jit.load(file, _extra_files=extra)
    else:
        torch.export.load(file, extra_files=extra)
    return json.loads(extra[METADATA])


@pytest.mark.parametrize(
    ("task", "format"),
    [
        *((task, "onnx") for task in TINY_RUNS),
        *((task, "torchscript") for task in TINY_RUNS),
        *((task, "torch_export") for task in ("localization", "reid")),  # slow, and all alike
    ],
)
def test_every_task_in_every_format(
    task: str, format: str, tiny_run: Run, tmp_path: Path, call: Call
) -> None:
    file = tmp_path / f"a.{SUFFIX[format]}"
    words = [f"format={format}", f"output={file}"]
    code, out, err = call(f"checkpoint={tiny_run(task)}", *words)
    assert code == 0, err
    assert "validation images, in batches of 1, 2, 5: largest difference" in out
    assert "tolerance 0.0001" in out
    found = metadata_of(file)
    assert found["outputs"].keys() == OUTPUTS[task]
    assert all(it["shape"][0] == "batch" and it["meaning"] for it in found["outputs"].values())
    trained = restore(tiny_run(task))
    assert found["task"] == task and found["class_names"] == trained.class_names
    assert found["input"]["shape"] == ["batch", 3, 32, 32]
    assert found["config"]["model"] == trained.config["model"]
    assert str(ROOT) not in json.dumps(found) and "cache" not in json.dumps(found["config"]["data"])
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # no draft is left


def test_a_user_of_the_file_needs_nothing_else(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    """An image that is prepared as the metadata say gives what `predict.py` finds in it.

    One at a time: such a file says so.
    """
    ramp = np.add.outer(np.arange(200), np.arange(300)) % 256
    photo, file = tmp_path / "a.png", tmp_path / "a.onnx"
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], 2).astype(np.uint8)).save(photo)
    run = f"checkpoint={tiny_run('localization')}"
    code, out, err = call(run, f"output={file}", f"images={photo}", "batch=1")
    assert code == 0, err
    assert f"on 1 images of {photo}, in batches of 1, 1" in out
    described = metadata_of(file)["input"]
    assert described["shape"] == [1, 3, 32, 32]
    side = described["image_size"]
    assert (described["resize"], described["colour"]) == ("stretch", "RGB")
    with Image.open(photo) as image:
        small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    pixels = (small / 255 - described["mean"]) / described["std"]
    given = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_inputs()[0].shape == [1, 3, 32, 32]
    (boxes,) = session.run(["boxes"], {described["name"]: given})
    with pytest.raises(SystemExit):
        predict(winning_run, [run, f"source={photo}", f"output={tmp_path}/out", "pictures=none"])
    entry = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"][0]
    expected = [entry["box"][key] for key in ("x1", "y1", "x2", "y2")]
    assert (boxes[0] * [300, 200, 300, 200]).tolist() == pytest.approx(expected, abs=0.01)


def test_the_code_of_the_page_sees_what_predict_sees(
    tiny_run: Run,
    tmp_path: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a large photograph that lies on its side in its file."""
    run = tiny_run("localization")
    assert call(f"checkpoint={run}", "format=onnx", f"output={tmp_path / 'best.onnx'}")[0] == 0
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    photo = Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example("docs/after-training.md", "python"), found)
    seen = Resize(32).image(read_image(tmp_path / "photo.jpg")) / 255
    shift, scale = (np.array(found["wanted"][key]) for key in ("mean", "std"))
    assert found["pixels"] * scale + shift == pytest.approx(seen, abs=1e-6)
    words = [f"checkpoint={run}", "source=photo.jpg", "output=found"]
    assert called(predict, words, capsys)[0] == 0
    with (tmp_path / "found" / "boxes.csv").open() as file:
        (row,) = csv.DictReader(file)
    edges = np.array([float(row[key]) for key in ("x1", "y1", "x2", "y2")])
    assert found["outputs"][0][0] * [300, 400, 300, 400] == pytest.approx(edges, abs=0.01)


def test_beyond_the_tolerance_nothing_is_written(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    words = [f"output={tmp_path}/a.onnx", "tolerance=1e-12"]
    code, _, err = call(f"checkpoint={tiny_run('segmentation')}", *words)
    assert code == 1
    assert "probabilities differs by" in err and "more than tolerance=1e-12" in err
    assert list(tmp_path.iterdir()) == []


def test_without_the_data_of_the_run(tiny_run: Run, tmp_path: Path, call: Call) -> None:
    """A checkpoint from elsewhere, whose data are not here, into its folder."""
    content = torch.load(tiny_run("localization") / "checkpoints/best.ckpt", weights_only=True)
    data = content["phasewise"]["config"]["data"]
    gone = {"_target_": "localization.data.VocBoxesData", "root": "/nowhere", "object": "largest"}
    kept = {key: value for key, value in data.items() if not key.endswith(("_images", "_seed"))}
    content["phasewise"]["config"]["data"] = kept | gone | {"split_seed": 0}
    torch.save(content, tmp_path / "theirs.ckpt")
    words = [f"checkpoint={tmp_path}/theirs.ckpt", "format=torchscript"]
    with pytest.raises(SystemExit) as stop:
        main(winning_run, words)
    assert stop.value.code == 0
    assert (tmp_path / "theirs.pt").is_file()
    found = metadata_of(tmp_path / "theirs.pt")
    assert found["comparison"]["images"] == "8 drawn images"
    assert "root" not in found["config"]["data"]
    code, _, err = call(*words)  # data.cache_dir is given: data are wanted
    assert code == 2 and "no such folder" in err


@pytest.mark.parametrize(
    ("task", "backbone"), [("reid", "vit_b_16"), ("multitask", "vit_tiny_patch16_224")]
)
def test_transformers_of_ours_take_any_number_of_images(
    task: str, backbone: str, make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    words = [f"task={task}", "data.image_size=32", f"model.backbone={backbone}"]
    network = Deployed(untrained(make_config(*words), class_names=["a", "b"], cameras=True).module)
    parts, file = batches(drawn_images(32).pixels, None), tmp_path / "a.pt"
    with exporting("torchscript", task):
        FORMATS["torchscript"].write(network, parts[1], True, {}, file)
    assert (
        max(compare_outputs(network, FORMATS["torchscript"].load(file), parts, 1e-4).values())
        < 1e-4
    )


class Attention(nn.Module):
    """The block of resnet18_nonlocal alone."""

    def __init__(self) -> None:
        super().__init__()
        self.block = NonLocal(8).eval()
        nn.init.ones_(self.block.bn.weight)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"y": self.block(images)}


def test_attention_in_onnx(tmp_path: Path) -> None:
    block: Any = Attention()
    parts = [torch.rand(count, 8, 5, 5) for count in (2, 1, 3)]
    with exporting("onnx", "attention"):
        FORMATS["onnx"].write(block, parts[0], True, {"outputs": {"y": {}}}, tmp_path / "a.onnx")
    assert (
        compare_outputs(block, FORMATS["onnx"].load(tmp_path / "a.onnx"), parts, 1e-4)["y"] < 1e-4
    )


def test_no_layer_is_called_by_a_word_of_python() -> None:
    """torch.export writes code with their names in it."""
    backbone, _ = build_backbone("resnet18_nonlocal", 32)
    words = {part for name, _ in backbone.named_modules() for part in name.split(".")}
    assert "attention" in words and not any(map(iskeyword, words))


class Net(nn.Module):
    """Answers by the number of images, as a traced network may that has learned it by heart."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"y": images.mean((1, 2, 3)) * len(images)}


def test_the_comparison_sees_what_differs() -> None:
    parts = batches(drawn_images(8).pixels, None)
    assert [len(part) for part in parts] == [1, 2, 5]
    net = Net()
    assert compare_outputs(net, net, parts, 1e-9) == {"y": 0.0}  # type: ignore[arg-type]
    told = {
        lambda x: {"y": x.mean((1, 2, 3)) * 2}: "y differs by .* for 1 images",
        lambda x: {"y": net(x)["y"] * float("nan")}: "y differs by nan",
        lambda x: {"y": net(x)["y"][:1]}: r"y is of shape \(1,\), not \(2,\), for 2 images",
        lambda x: {"z": net(x)["y"]}: "y is missing",
        lambda x: 1 / 0: "fails on 1 images: division by zero",
    }
    for run, text in told.items():
        with pytest.raises(RunFailedError, match=text):
            compare_outputs(net, run, parts, 1e-4)  # type: ignore[arg-type]


def test_what_cannot_be_exported_is_refused_in_a_line() -> None:
    def fail() -> None:
        raise ValueError("no such operator\nand a lot more")

    with (
        pytest.raises(
            UserError, match=r"format=onnx: it cannot be exported \(ValueError: no such o"
        ),
        exporting("onnx", "it"),
    ):
        fail()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "checkpoint: must be given"),
        ("checkpoint={run} format=onxn", "format=onxn: not one of onnx, torchscript, torch_export"),
        ("checkpoint={run} tolerance=0", "tolerance=0: must be a number > 0"),
        ("checkpoint={run} batch=0", "batch=0: must be a whole number >= 1 or null"),
        ("checkpoint={run} output={tmp}", "is a folder; a file's name is wanted"),
        ("checkpoint={run} images={tmp}/no", "images={tmp}/no: no such file or folder"),
        ("checkpoint={run} images={tmp}/text.png", "text.png"),
        ("checkpoint={tmp}/text.png", "not a file that torch.save writes"),
    ],
)
def test_mistakes(words: str, told: str, tiny_run: Run, tmp_path: Path, call: Call) -> None:
    (tmp_path / "text.png").write_text("no image")
    filled = words.format(run=tiny_run("localization"), tmp=tmp_path)
    code, _, err = call(*filled.split())
    assert code == 2
    assert told.format(tmp=tmp_path) in err and err.startswith("export.py: ")
    assert len(err.strip().splitlines()) <= 3


def test_missing_packages(
    tiny_run: Run, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = call(f"checkpoint={tiny_run('localization')}", f"output={tmp_path}/a.onnx")
    assert code == 2
    assert "onnxscript is not installed; pip install -e '.[export]' brings it" in err


def test_the_script_itself(tiny_run: Run, tmp_path: Path) -> None:
    """In a process of its own, from another folder."""
    words = [f"checkpoint={tiny_run('localization')}", "format=torchscript", "output=a/b.pt"]
    script = [sys.executable, str(ROOT / "export.py"), *words]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = torch.jit.load(tmp_path / "a" / "b.pt")(torch.zeros(2, 3, 32, 32))
    assert found["boxes"].shape == (2, 4)


def test_help(call: Call) -> None:
    code, out, _ = call("-h")
    assert code == 0
    assert "format=onnx" in out and "tolerance=0.0001" in out

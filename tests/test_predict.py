"""``predict.py`` as people call it: all tasks, all kinds of images, and what people do wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from phasewise.inference.prediction.command import main
from phasewise.training.run import train
from tests import forks
from tests.conftest import ROOT, called, twin
from tests.phasewise.training.directory import record_of
from tests.predictors import turned

SIZE = (90, 60)

Run = Callable[[str], Path]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_of(tiny_run: Run) -> Run:
    """The directory of a tiny run of a task, trained once."""
    return tiny_run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture in every form that people have."""
    folder = tmp_path_factory.mktemp("my pictures é")
    ramp = np.linspace(0, 255, SIZE[0]).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (SIZE[1], 1))] * 3, 2)
    pixels[:, :, 1] = np.linspace(0, 255, SIZE[1]).astype(np.uint8)[:, None]
    image = Image.fromarray(pixels)
    (folder / "Über (1)").mkdir()
    image.save(folder / "a.jpg")
    image.save(folder / "a.PNG")
    image.save(folder / "Über (1)" / "a.JPEG")
    image.convert("L").save(folder / "grey.png")
    image.convert("1").save(folder / "bits.bmp")
    image.convert("P").save(folder / "palette.gif")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("RGBA").save(folder / "alpha.webp")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.TIFF")
    turned(pixels, folder / "turned.jpg")
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: exit code, output, errors."""

    return lambda *words: called(main, words, capsys)


def index(folder: Path) -> dict:
    return json.loads((folder / "predictions.json").read_text(encoding="utf-8"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found}


@pytest.mark.slow
def test_the_script_itself(run_of: Run, source: Path, tmp_path: Path) -> None:
    """In a process of its own, from another folder, with the default output."""
    words = [f"checkpoint={run_of('localization')}", f"source={source}/*.jpg"]
    done = forks.training().run([str(ROOT / "predict.py"), *words], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path("outputs/predictions", source.name)
    assert done.stdout == f"3 images -> {folder}: predictions.json, overlays/, boxes.csv\n"
    assert files(tmp_path / folder) == {
        "predictions.json",
        "boxes.csv",
        *(f"overlays/{name}.jpg" for name in ("a", "cmyk", "turned")),
    }


def test_multitask(run_of: Run, source: Path, tmp_path: Path, call: Call) -> None:
    words = ["score=0", "flip=true", "batch_size=3", "pictures=png"]
    code, _, err = call(
        f"checkpoint={run_of('multitask')}", f"source={source}", f"output={tmp_path}", *words
    )
    assert (code, err) == (0, "")
    found = index(tmp_path)
    assert found["status"] == "completed"
    assert found["classes"][0] == "background"
    assert len(found["images"]) == 10
    boxes = table(tmp_path / "boxes.csv")
    for entry in found["images"]:
        size = SIZE  # also of the one that lies on its side in its file
        assert (entry["width"], entry["height"]) == size
        for name in ("mask", "overlay"):
            with Image.open(tmp_path / entry[name]) as image:
                assert image.size == size
        with Image.open(tmp_path / entry["mask"]) as mask:
            counts = np.bincount(np.asarray(mask).ravel())
        names = found["classes"]
        assert entry["pixels"] == {names[i]: int(n) for i, n in enumerate(counts) if n}
        rows = [row for row in boxes if row["file"] == entry["file"]]
        assert [float(row["x2"]) for row in rows] == [box["x2"] for box in entry["boxes"]]
        for box in entry["boxes"]:
            assert 0 <= box["x1"] < box["x2"] <= SIZE[0]
            assert 0 <= box["y1"] < box["y2"] <= SIZE[1]
    assert len({entry["mask"] for entry in found["images"]}) == 10


def test_the_same_pixels_give_the_same_prediction(
    run_of: Run, source: Path, tmp_path: Path, call: Call
) -> None:
    """Whatever the format they are stored in; JPEG alters them a little."""
    checkpoint = f"checkpoint={run_of('localization')}"
    call(checkpoint, f"source={source}", f"output={tmp_path}", "pictures=none")
    rows = {row["file"]: row for row in table(tmp_path / "boxes.csv")}
    box = {
        name: [float(row[key]) for key in ("x1", "y1", "x2", "y2")] for name, row in rows.items()
    }
    for name in ("a.jpg", "Über (1)/a.JPEG", "turned.jpg", "alpha.webp", "cmyk.jpg"):
        assert np.abs(np.subtract(box[name], box["a.PNG"])).max() < 2, name
    assert files(tmp_path) == {"predictions.json", "boxes.csv"}


def test_segmentation_in_squares(run_of: Run, source: Path, tmp_path: Path, call: Call) -> None:
    checkpoint = f"checkpoint={run_of('segmentation')}"
    code, _, err = call(
        checkpoint, f"source={source}", f"output={tmp_path}", "tile=32", "overlap=8", "batch_size=4"
    )
    assert (code, err) == (0, "")
    images, objects = table(tmp_path / "images.csv"), table(tmp_path / "objects.csv")
    assert len(images) == 10
    for row, entry in zip(images, index(tmp_path)["images"], strict=True):
        assert row["file"] == entry["file"]
        own = [one for one in objects if one["file"] == entry["file"]]
        assert int(row["objects"]) == entry["objects"] == len(own)
        with Image.open(tmp_path / entry["mask"]) as mask:
            values = np.asarray(mask)
        assert set(np.unique(values)) <= {0, 255}
        assert values.shape == (SIZE[1], SIZE[0])
        assert float(row["foreground"]) == pytest.approx((values == 255).mean(), abs=1e-6)


def test_reid(run_of: Run, source: Path, tmp_path: Path, call: Call) -> None:
    words = [f"source={source}/*.jpg", f"gallery={source}", f"output={tmp_path}", "top=3"]
    code, _, err = call(f"checkpoint={run_of('reid')}", *words)
    assert (code, err) == (0, "")
    rows = table(tmp_path / "ranking.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 3
    assert all(row["query"] != row["file"] for row in rows)
    assert files(tmp_path) == {
        "predictions.json",
        "ranking.csv",
        *(f"rankings/{name}.jpg" for name in ("a", "cmyk", "turned")),
    }


def test_a_second_call_overwrites_and_does_not_read_its_results(
    run_of: Run, source: Path, tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(source, folder)
    words = [f"checkpoint={run_of('multitask')}", f"source={folder}", f"output={folder}"]
    assert call(*words)[0] == 0
    first, content = files(folder), index(folder)
    (folder / "masks/grey.png.png").write_text("damaged")
    assert call(*words)[0] == 0
    assert files(folder) == first
    assert index(folder) == content
    with Image.open(folder / "masks/grey.png.png") as mask:
        assert mask.size == SIZE


def test_a_gallery_does_not_hold_the_results_in_it(
    run_of: Run, source: Path, tmp_path: Path, call: Call
) -> None:
    gallery = tmp_path / "gallery"
    shutil.copytree(source, gallery)
    words = [f"source={source}/a.jpg", f"gallery={gallery}", f"output={gallery}", "top=99"]
    for _ in range(2):
        assert call(f"checkpoint={run_of('reid')}", *words)[0] == 0
        assert len(table(gallery / "ranking.csv")) == 10


def test_ensemble_and_names_of_checkpoints(
    run_of: Run, source: Path, tmp_path: Path, call: Call
) -> None:
    """Networks that compute the same are the network; twice the same one is refused."""
    run = run_of("localization")
    code, _, errors = call(f"checkpoint=[{run},{run}/checkpoints/last.ckpt]", f"source={source}")
    assert code == 2 and "one network would count twice" in errors
    other = twin(run, tmp_path / "twin")
    both = f"checkpoint=[{run},{other}/checkpoints/last.ckpt]"
    words = [f"source={source}/a.jpg", "pictures=none"]
    assert call(both, *words, f"output={tmp_path}/two")[0] == 0
    assert call(f"checkpoint={run}", *words, f"output={tmp_path}/one")[0] == 0
    assert index(tmp_path / "two")["images"] == index(tmp_path / "one")["images"]
    assert [Path(it).name for it in index(tmp_path / "two")["checkpoints"]] == [
        "best.ckpt",
        "last.ckpt",
    ]


def bad_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.png").touch()
    Image.new("RGB", SIZE, "red").save(folder / "good.png")
    whole = folder / "cut.jpg"
    Image.effect_noise(SIZE, 50).save(whole)
    whole.write_bytes(whole.read_bytes()[:500])
    return folder


BAD = """\
  cut.jpg: cannot be decoded: image file is truncated
  empty.png: the file is empty
  text.jpg: not an image (JPEG, PNG, BMP, WEBP, TIFF, GIF)
"""


def without_details(text: str) -> str:
    return re.sub(r" \(\d+ bytes not processed\)", "", text)


def test_bad_images_are_listed_before_anything_is_written(
    run_of: Run, tmp_path: Path, call: Call
) -> None:
    folder = bad_folder(tmp_path)
    words = [f"checkpoint={run_of('localization')}", f"source={folder}", f"output={tmp_path}/out"]
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert without_details(err).startswith("predict.py: 3 images cannot be read:\n" + BAD)
    assert err.endswith("on_bad=skip\n")
    assert not (tmp_path / "out").exists()


def test_bad_images_are_left_out_if_so_wanted(run_of: Run, tmp_path: Path, call: Call) -> None:
    folder = bad_folder(tmp_path)
    words = [f"source={folder}", f"output={tmp_path}/out", "on_bad=skip", "batch_size=1"]
    code, out, err = call(f"checkpoint={run_of('localization')}", *words)
    assert code == 0
    assert out.startswith("1 image -> ")
    assert without_details(err).startswith("predict.py: 3 images were left out:\n" + BAD)
    found = index(tmp_path / "out")
    assert [entry["file"] for entry in found["images"]] == ["good.png"]
    assert [it["file"] for it in found["skipped"]] == ["cut.jpg", "empty.png", "text.jpg"]
    (folder / "good.png").unlink()
    code, _, err = call(f"checkpoint={run_of('localization')}", *words)
    assert code == 2
    assert err.endswith("nothing is left to predict\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("checkpoint={run} source={dir}/gone.jpg", "source={dir}/gone.jpg: no such file or folder"),
        ("checkpoint={run} source={dir}/empty", "source={dir}/empty: it is empty"),
        ("checkpoint={run} source={dir}/*.bmp", "source={dir}/*.bmp: the pattern matches nothing"),
        ("checkpoint={dir}/gone.ckpt source={dir}", "{dir}/gone.ckpt: no such file or directory"),
        ("checkpoint={dir}/empty source={dir}", "{dir}/empty is empty"),
        ("checkpoint={dir}/text.ckpt source={dir}", "{dir}/text.ckpt cannot be read"),
        (
            "checkpoint={dir}/alien.ckpt source={dir}",
            "{dir}/alien.ckpt is no checkpoint of phasewise",
        ),
        (
            "checkpoint={run} source={dir} output={dir}/a.png",
            "output={dir}/a.png: {dir}/a.png is not",
        ),
        (
            "checkpoint={run} source={dir} tile=64",
            "tile: not for {run}/checkpoints/best.ckpt, which",
        ),
        ("checkpoint=[{run},{other}] source={dir}", "{other}/checkpoints/best.ckpt is of task=seg"),
        ("checkpoint={run} source={dir} flp=true", "flp: no such key; did you mean flip?"),
        ("checkpoint={run}", "source: must be given: source=PATH"),
    ],
)
def test_mistakes_are_one_clear_line(
    run_of: Run, tmp_path: Path, call: Call, words: str, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "alien.ckpt")
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    names = {"dir": tmp_path, "run": run_of("localization"), "other": run_of("segmentation")}
    before = files(tmp_path)
    output = [] if "output" in words else [f"output={tmp_path}/out"]
    code, out, err = call(*words.format(**names).split(), *output)
    assert (code, out) == (2, "")
    assert err.startswith(f"predict.py: {told.format(**names)}")
    assert err.count("\n") <= 2
    assert "Traceback" not in err
    assert files(tmp_path) == before


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="only Linux has a folder closed to root"
)
def test_an_output_that_cannot_be_written(run_of: Run, source: Path, call: Call) -> None:
    code, _, err = call(f"checkpoint={run_of('reid')}", f"source={source}", "output=/proc/out")
    assert code == 2
    assert err.startswith("predict.py: output=/proc/out: /proc cannot be written: ")


def test_weights_of_a_training_that_diverged(run_of: Run, tmp_path: Path, call: Call) -> None:
    content = torch.load(run_of("localization") / "checkpoints/best.ckpt", weights_only=True)
    name = next(key for key, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][name].fill_(torch.nan)
    torch.save(content, tmp_path / "nan.ckpt")
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    code, _, err = call(f"checkpoint={tmp_path}/nan.ckpt", f"source={tmp_path}/a.png")
    assert code == 2
    assert err.endswith("its weights are not finite numbers: the training has diverged\n")


def test_help(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert out.startswith("usage: python predict.py checkpoint=PATH source=PATH")


def linked(folder: Path, images: Path, names: Path) -> Path:
    """A folder with links to the images that a list names."""
    folder.mkdir()
    for name in names.read_text(encoding="utf-8").split():
        path = images / f"{Path(name).stem}.jpg"
        (folder / path.name).symlink_to(path)
    return folder


def iou(row: dict[str, str], annotation: Path) -> float:
    """Of a predicted box and the true one, both in pixels of the photograph."""
    box = ElementTree.parse(annotation).find(".//bndbox")
    assert box is not None
    corners = [float(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
    truth = np.subtract(corners, (1, 1, 0, 0))  # VOC counts from 1 and includes the last pixel
    found = np.array([float(row[key]) for key in ("x1", "y1", "x2", "y2")])
    sides = np.minimum(truth[2:], found[2:]) - np.maximum(truth[:2], found[:2])
    common = np.prod(sides.clip(0))
    return common / (np.prod(truth[2:] - truth[:2]) + np.prod(found[2:] - found[:2]) - common)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_boxes_on_photographs_are_as_good_as_training_said(
    shared_data: Path,
    make_config: Callable[..., DictConfig],
    tmp_path: Path,
    call: Call,
    resize: str,
) -> None:
    """The IoU of the validation photographs, taken in their own pixels, is the record's."""
    root = shared_data / "pets_heads"
    words = ["data=voc_boxes", f"data.root={root}", f"data.resize={resize}", "data.image_size=64"]
    words += ["model.backbone=test_resnet", "trainer.max_epochs=1", "figures.images=0"]
    train(make_config("task=localization", *words), tmp_path / "run")
    names = root / "ImageSets/Main/val.txt"
    photographs = linked(tmp_path / "val", root / "JPEGImages", names)
    words = [f"source={photographs}", f"output={tmp_path}/out", "pictures=none", "batch_size=32"]
    assert call(f"checkpoint={tmp_path}/run", *words)[0] == 0
    rows = table(tmp_path / "out/boxes.csv")
    found = [iou(row, root / "Annotations" / f"{Path(row['file']).stem}.xml") for row in rows]
    assert len(found) == 74
    expected = record_of(tmp_path / "run").best["val/IoU"]
    assert np.mean(found) == pytest.approx(expected, abs=5e-4)


@pytest.mark.slow
def test_beads_on_photographs_are_counted_as_training_said(
    shared_data: Path, make_config: Callable[..., DictConfig], tmp_path: Path, call: Call
) -> None:
    """The mean number of beads in the validation photographs is the record's."""
    root = shared_data / "beads"
    words = ["data=image_mask", f"data.root={root}", "data.image_size=128", "data.batch_size=8"]
    words += ["model.width=4", "trainer.max_epochs=2", "figures.images=0"]
    train(make_config("task=segmentation", *words), tmp_path / "run")
    photographs = linked(tmp_path / "val", root / "images", root / "val.txt")
    words = [f"source={photographs}", f"output={tmp_path}/out", "pictures=none"]
    assert call(f"checkpoint={tmp_path}/run", *words)[0] == 0
    counts = [int(row["objects"]) for row in table(tmp_path / "out/images.csv")]
    assert len(counts) == 15
    assert sum(counts) > 0
    assert np.mean(counts) == pytest.approx(record_of(tmp_path / "run").best["val/objects"])

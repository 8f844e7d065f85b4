"""Readers of a user's own: what they list is checked, hashed and remembered like our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from localization.data import ReaderData
from phasewise.config.fingerprint import plain_config
from phasewise.config.identity import cached_identity, data_identity
from phasewise.config.schema import check_config
from phasewise.errors import UserError
from phasewise.inference.evaluation.data import open_data
from phasewise.training.build import build_data

Make = Callable[..., DictConfig]


def own(make: Make, task: str, root: Path, reader: dict[str, Any], *words: str) -> dict[str, Any]:
    """A config with a file of a user's own for its data, checked."""
    like = {"localization": "csv", "multitask": "voc", "segmentation": "image_mask"}
    cfg = make(f"task={task}", f"data={like.get(task, 'folder')}", f"data.root={root}", *words)
    data = OmegaConf.to_container(cfg.data)
    assert isinstance(data, dict)
    drop: tuple[str, ...] = (
        ()
        if task == "reid"
        else (
            *("file", "split_seed", "object", "group_by"),
            *("validation", "holdout", "folds", "fold"),
        )
    )
    if task == "multitask":
        drop += ("coordinates", "size_tag", "mask_values", "colors")
    data = {str(key): it for key, it in data.items() if key not in (*drop, "cameras")}
    data |= {"_target_": f"{task}.data.ReaderData", "reader": reader}
    OmegaConf.set_struct(cfg, value=False)
    cfg.data = data
    check_config(cfg)
    return {str(key): value for key, value in plain_config(cfg).items()}


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Ten images, and a table that lies elsewhere."""
    (tmp_path / "images").mkdir()
    for i in range(10):
        Image.new("RGB", (40, 20), (20 * i, 9, 9)).save(tmp_path / f"images/{i}.png")
    rows = [f"{i}.png,{i},2,{i + 20},18" for i in range(10)]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path


def table(boxes: Path, **more: Any) -> dict[str, Any]:
    target = "tests.outside.readers.halves"
    return {"_target_": target, "table": str(boxes / "table.csv"), **more}


@pytest.mark.parametrize(
    ("task", "folder", "like", "target"),
    [
        ("multitask", "pennfudan_voc", "voc", "voc"),
        ("segmentation", "beads", "image_mask", "masks"),
    ],
)
def test_what_it_lists_is_what_ours_would(
    task: str, folder: str, like: str, target: str, make_config: Make, shared_data: Path
) -> None:
    root = shared_data / folder
    reader = {"_target_": f"tests.outside.readers.{target}"}
    mine = build_data(own(make_config, task, root, reader))
    ours = build_data(
        plain_config(make_config(f"task={task}", f"data={like}", f"data.root={root}"))
    )
    assert mine.identity().hashes == ours.identity().hashes
    assert mine.manifest() == ours.manifest()


def test_identities_of_a_reader(make_config: Make, tmp_path: Path) -> None:
    for identity in range(6):
        (tmp_path / str(identity)).mkdir()
        for camera in range(3):
            name = tmp_path / f"{identity}/{identity}_c{camera}.png"
            Image.new("RGB", (8, 8), (40 * identity, 80 * camera, 0)).save(name)
    reader = {"_target_": "tests.outside.readers.identities"}
    mine = build_data(own(make_config, "reid", tmp_path, reader))
    words = ("task=reid", "data=folder", f"data.root={tmp_path}")
    ours = build_data(plain_config(make_config(*words)))
    assert mine.identity().hashes == ours.identity().hashes


def test_what_it_reads_elsewhere_is_looked_at_again(make_config: Make, boxes: Path) -> None:
    config = own(make_config, "localization", boxes / "images", table(boxes))
    first = data_identity(config["data"], 0)
    assert first is not None
    assert sum(first.counts.values()) == 10
    time.sleep(2.1)  # a file that was just written is not yet remembered
    again = build_data(config)
    assert again.identity().hash == first.hash
    assert data_identity(config["data"], 0) == first
    assert cached_identity(config["data"]) == first  # without listing anything
    text = (boxes / "table.csv").read_text()
    (boxes / "table.csv").write_text(text.replace("0.png,0,", "0.png,1,"))
    assert cached_identity(config["data"]) is None
    found = data_identity(config["data"], 0)
    assert found is not None
    assert found.hash != first.hash
    seed = own(make_config, "localization", boxes / "images", table(boxes, seed=3))
    assert data_identity(seed["data"], 0) != found


def test_a_function_of_a_notebook(boxes: Path) -> None:
    from tests.outside.readers import halves

    def read(root: Path) -> Any:
        return halves(root, str(boxes / "table.csv"))

    cache = str(boxes / "cache")
    data = ReaderData(root=str(boxes / "images"), reader=read, image_size=32, cache_dir=cache)
    data.setup()
    store = data.splits.stores["train"]
    assert store["image"].shape[1:] == (3, 32, 32)
    x1, y1, x2, y2 = store["boxes"][0, 0].tolist()
    assert (x2 - x1, y1, y2) == pytest.approx((16, 3.2, 28.8))  # of 40 x 20 pixels
    wrong = ReaderData(root=str(boxes), reader=lambda root: [], cache_dir=cache)
    with pytest.raises(UserError, match=r"^data.reader: returned a list, which is no Listing$"):
        wrong.setup()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"tabel": "x"},
            "data.reader.tabel=x: tests.outside.readers.halves takes no such argument",
        ),
        ({"_target_": "tests.outside.readers.halfs"}, "has no halfs; did you mean halves?"),
    ],
)
def test_what_does_not_fit_is_told_at_once(
    change: dict[str, Any], told: str, make_config: Make, boxes: Path
) -> None:
    with pytest.raises(UserError) as error:
        own(make_config, "localization", boxes, table(boxes) | change)
    assert told in str(error.value)


def test_what_it_returns_is_looked_at(make_config: Make, boxes: Path) -> None:
    names = {"_target_": "tests.outside.readers.names"}
    told = r"^data.reader: tests.outside.readers.names makes a list, which is no localization"
    with pytest.raises(UserError, match=told):
        build_data(own(make_config, "localization", boxes, names)).identity()
    missing = table(boxes) | {"table": "nowhere.csv"}
    told = r"^data.reader: tests.outside.readers.halves raised FileNotFoundError: "
    with pytest.raises(UserError, match=told):
        build_data(own(make_config, "localization", boxes, missing)).identity()


def test_a_reader_that_a_checkpoint_names_runs_only_where_it_is_trusted(
    make_config: Make, boxes: Path
) -> None:
    config = own(make_config, "localization", boxes / "images", table(boxes), "data.augment=[]")
    config["data"]["augment"] = [{"_target_": "os.system"}]  # is not built
    with pytest.raises(UserError, match=r"data\.reader=tests\.outside.*: trust=\[tests\]$"):
        open_data(config, "a.ckpt")
    data = open_data(config, "a.ckpt", ["tests.outside.readers"])
    data.setup("test")
    assert isinstance(data.splits.stores["test"]["image"], torch.Tensor)


def test_a_datamodule_from_a_checkpoint_names_no_code(boxes: Path) -> None:
    root, part = str(boxes / "images"), table(boxes)
    fog = [{"_target_": "tests.outside.fog.Fog"}]
    data = ReaderData(root=root, reader=part, augment=["flip", *fog])
    kept = {data.CHECKPOINT_HYPER_PARAMS_KEY: dict(data.hparams)}
    torch.save({"pytorch-lightning_version": "2.5.0", **kept}, file := boxes / "a.ckpt")
    told = r"names code .*\(augment\.1=tests\.outside\.fog\.Fog, reader=tests\.outside\.readers"
    with pytest.raises(UserError, match=told):
        ReaderData.load_from_checkpoint(file)
    with pytest.raises(UserError, match=r"\(path, reader=\.\.\.\)$"):
        ReaderData.load_from_checkpoint(file, augment=[])
    again = ReaderData.load_from_checkpoint(file, augment=[], reader=part)
    assert str(again.root) == root

"""The shared DataModule, by way of the data sets of the multi-task pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

import multitask.data
from phasewise.data.batch import resized
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.training.build import build_module
from tests.conftest import TINY
from tests.voc_folder import BOX, SIZE, VocFolder

CPU = torch.device("cpu")
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])

Reader = Callable[..., StoreDataModule]


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "voc")


@pytest.fixture
def read(make_config: Callable[..., DictConfig], voc: VocFolder, tmp_path: Path) -> Reader:
    def make(*words: str, data: str = "voc") -> StoreDataModule:
        if not any(word.startswith("data.root=") for word in words):
            words = (f"data.root={voc.root}", *words)
        cache = f"data.cache_dir={tmp_path / 'cache'}"
        cfg = make_config(f"data={data}", cache, "data.image_size=32", *words)
        made: StoreDataModule = instantiate(cfg.data, seed=cfg.seed)
        made.setup()
        return made

    return make


def batch(data: StoreDataModule, split: str, *rows: int) -> dict[str, Tensor]:
    return data.gather(split, torch.tensor(rows), CPU)


# Bad samples


def spoil(voc: VocFolder) -> None:
    """One sample that its header gives away, one that only decoding does."""
    voc.image("train-0").write_text("no image")
    whole = voc.image("train-1").read_bytes()
    voc.image("train-1").write_bytes(whole[: len(whole) // 2])


def test_bad_samples_stop_the_reading_and_are_all_named(voc: VocFolder, read: Reader) -> None:
    spoil(voc)
    with pytest.raises(UserError) as caught:
        read()
    lines = str(caught.value).splitlines()
    assert lines[0] == f"2 samples in data.root={voc.root} cannot be used:"
    assert lines[1].startswith("  JPEGImages/train-0.jpg: not an image")
    assert lines[2].startswith("  JPEGImages/train-1.jpg: cannot be decoded: ")
    assert lines[3] == "mend or remove them, or train on the rest with data.on_bad=skip"
    assert len(lines) == 4


def test_bad_samples_are_skipped_on_demand_also_from_the_cache(
    voc: VocFolder, read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(voc)
    first = read("data.on_bad=skip")
    monkeypatch.setattr(multitask.data, "read_image", None)
    again = read("data.on_bad=skip")
    assert first.summary() == again.summary()
    assert first.summary().counts == {"train": 2, "val": 2, "test": 0}
    assert [p.file for p in first.summary().rejected] == [
        "JPEGImages/train-0.jpg",
        "JPEGImages/train-1.jpg",
    ]
    assert first.splits.names["train"] == ["train-2", "train-3"]
    assert torch.equal(first.splits.stores["train"]["image"], again.splits.stores["train"]["image"])


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_split_of_bad_samples_only_is_refused(voc: VocFolder, read: Reader, on_bad: str) -> None:
    for name in ("val-0", "val-1"):
        voc.image(name).write_bytes(voc.image(name).read_bytes()[:-200])
    with pytest.raises(UserError, match=r"2 samples in .* cannot be used, which leaves val empty"):
        read(f"data.on_bad={on_bad}")


def test_the_summary_names_who_is_in_which_split(voc: VocFolder, read: Reader) -> None:
    before = read().summary()
    assert before.split_hash == read("data.image_size=64").summary().split_hash
    voc.list("train", ["train-0", "train-1", "train-2", "val-1"])
    voc.list("val", ["val-0", "train-3"])
    after = read().summary()
    assert after.counts == before.counts
    assert after.split_hash != before.split_hash


# Resizing


def test_stretch_fills_the_square(read: Reader) -> None:
    rows = batch(read(), "train", 0)
    x1, y1, x2, y2 = BOX
    sx, sy = 32 / SIZE[0], 32 / SIZE[1]
    wanted = torch.tensor([(x1 - 1) * sx, (y1 - 1) * sy, x2 * sx, y2 * sy])
    torch.testing.assert_close(rows["boxes"][0, 0], wanted)
    assert not (rows["mask"] == 255).any()
    assert rows["mask"][0, 16, 16] == 2
    assert rows["index"].tolist() == [0]


def test_letterbox_keeps_the_aspect_and_pads(read: Reader) -> None:
    rows = batch(read("data.resize=letterbox"), "train", 0)
    x1, y1, x2, y2 = BOX
    scale, top = 32 / SIZE[0], (32 - 16) / 2
    wanted = torch.tensor([(x1 - 1) * scale, (y1 - 1) * scale + top, x2 * scale, y2 * scale + top])
    torch.testing.assert_close(rows["boxes"][0, 0], wanted)
    void = rows["mask"][0] == 255
    assert void[:8].all()
    assert void[24:].all()
    assert not void[8:24].any()
    grey = torch.tensor([124, 116, 104], dtype=torch.uint8)
    assert (rows["image"][0, :, :8] == grey[:, None, None]).all()
    assert not torch.equal(rows["image"], batch(read(), "train", 0)["image"])


def test_evaluation_sees_normalised_images_and_nothing_else_changed(read: Reader) -> None:
    data = read("data.augment=[flip,color_jitter,erase]")
    stored, seen = batch(data, "val", 1, 0), data.prepared("val", torch.tensor([1, 0]), CPU)
    wanted = (stored["image"] / 255 - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(seen["image"], wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(seen["boxes"], stored["boxes"])
    assert torch.equal(seen["mask"], stored["mask"])


# Cache and memory


def test_decoded_images_come_from_the_cache_the_second_time(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = batch(read(), "train", 0, 3)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # train and val
    monkeypatch.setattr(multitask.data, "read_image", None)
    again = batch(read(), "train", 0, 3)
    assert all(torch.equal(first[key], again[key]) for key in first)
    with pytest.raises(TypeError, match="not callable"):
        read("data.image_size=64")


def test_a_changed_image_is_decoded_anew(voc: VocFolder, read: Reader) -> None:
    before = batch(read(), "train", 0)["image"]
    Image.new("RGB", SIZE, "blue").save(voc.image("train-0"))
    after = batch(read(), "train", 0)["image"]
    assert (after[0, 2] > 200).all()
    assert not torch.equal(before, after)


def test_a_cache_that_cannot_be_written_is_told(read: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data.cache_dir=.*file cannot be written"):
        read(f"data.cache_dir={tmp_path / 'file'}")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists its maps")
def test_a_split_beyond_the_limit_stays_on_disk(read: Reader, tmp_path: Path) -> None:
    def mapped() -> bool:
        return str(tmp_path / "cache") in Path("/proc/self/maps").read_text()

    in_memory = read("data.ram_limit_mb=1")
    assert not mapped()
    on_disk = read("data.ram_limit_mb=0")
    assert mapped()
    rows = batch(on_disk, "train", 0, 1, 2, 3)
    assert torch.equal(rows["image"], in_memory.splits.stores["train"]["image"])


# Splits and roots


def test_the_seed_of_the_split_counts_only_without_lists(voc: VocFolder, read: Reader) -> None:
    listed = read("data.split_seed=1").splits.names
    assert listed == read("data.split_seed=2").splits.names
    shutil.rmtree(voc.root / "ImageSets")
    splits = [read(f"data.split_seed={seed}").splits.names for seed in range(5)]
    assert all(sum(map(len, names.values())) == 6 for names in splits)
    assert len({tuple(names["val"]) for names in splits}) > 1
    assert read("data.split_seed=3").splits.names == splits[3]


@pytest.mark.parametrize("inner", ["VOCdevkit/VOC2012", "VOC2012", ""])
def test_voc2012_is_found_wherever_below_its_root(
    voc: VocFolder, read: Reader, tmp_path: Path, inner: str
) -> None:
    root = tmp_path / "somewhere"
    (root / inner).parent.mkdir(parents=True, exist_ok=True)
    voc.root.rename(root / inner)
    data = read(f"data.root={root}", data="voc2012")
    assert data.summary().counts["train"] == 4


def test_voc2012_is_downloaded_only_on_demand(
    voc: VocFolder, read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(root: Path, **_: Any) -> None:
        (root / "VOCdevkit").mkdir()
        voc.root.rename(root / "VOCdevkit" / "VOC2012")

    root = tmp_path / "download"
    root.mkdir()
    monkeypatch.setattr(multitask.data, "VOCSegmentation", fetch)
    with pytest.raises(UserError, match=r"data\.download=true fetches"):
        read(f"data.root={root}", data="voc2012")
    data = read(f"data.root={root}", "data.download=true", data="voc2012")
    assert data.summary().counts["train"] == 4


def test_a_download_without_internet_is_told(
    read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(root: Path, **_: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(multitask.data, "VOCSegmentation", fetch)
    with pytest.raises(UserError, match=r"could not be downloaded into .* Without internet, "):
        read(f"data.root={tmp_path}/new", "data.download=true", data="voc2012")


# Partly labelled samples


def test_a_sample_trains_only_the_task_that_it_is_labelled_for(
    voc: VocFolder, read: Reader, make_config: Callable[..., DictConfig]
) -> None:
    voc.mask("train-0").unlink()
    voc.xml("train-1").unlink()
    voc.write_xml("train-2", "")  # looked at, and nothing in it
    data = read()
    assert {p.file for p in data.summary().warnings} == {"Annotations", "SegmentationClass"}
    rows = batch(data, "train", 0, 1, 2, 3)
    assert rows["has_mask"].tolist() == [False, True, True, True]
    assert rows["has_boxes"].tolist() == [True, False, True, True]
    config = OmegaConf.to_container(make_config(*TINY), resolve=True)
    assert isinstance(config, dict)
    # batch norm would carry gradients from one image to the other
    module = build_module(config, data.describe()).eval()

    def gradients(row: int) -> dict[str, float]:
        module.zero_grad()
        _, terms = module.losses(data.prepared("train", torch.tensor([row]), CPU))
        sum(terms.values()).backward()
        return {
            name: max(
                float(p.grad.abs().max())
                for p in getattr(module.network, name).parameters()
                if p.grad is not None
            )
            for name in ("segmentation", "detection")
        }

    boxes_only, mask_only, empty, both = map(gradients, range(4))
    assert boxes_only["segmentation"] == 0 < boxes_only["detection"]
    assert mask_only["detection"] == 0 < mask_only["segmentation"]
    assert min(empty.values()) > 0  # the absence of objects is a label
    assert min(both.values()) > 0


def test_fields_are_as_declared(read: Reader) -> None:
    rows = batch(read(), "val", 0)
    found = {key: (tuple(value.shape), value.dtype) for key, value in rows.items()}
    assert found == {
        "image": ((1, 3, 32, 32), torch.uint8),
        "mask": ((1, 32, 32), torch.uint8),
        "boxes": ((1, 1, 4), torch.float32),
        "labels": ((1, 1), torch.int64),
        "difficult": ((1, 1), torch.bool),
        "has_mask": ((1,), torch.bool),
        "has_boxes": ((1,), torch.bool),
        "index": ((1,), torch.int64),
    }
    assert rows["labels"].tolist() == [[2]]


# Sizes of training images


def test_another_size_moves_image_mask_and_boxes_alike() -> None:
    image = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    mask = torch.full((2, 64, 64), 255, dtype=torch.uint8)
    image[:, :, 16:32, 8:40], mask[:, 16:32, 8:40] = 200, 3
    boxes = torch.tensor([[[8.0, 16.0, 40.0, 32.0]]] * 2)
    small = resized({"image": image, "mask": mask, "boxes": boxes, "labels": boxes[..., 0]}, 32)
    assert small["image"].shape == (2, 3, 32, 32)
    assert small["image"].dtype == small["mask"].dtype == torch.uint8
    assert set(small["mask"].unique().tolist()) == {3, 255}
    assert (small["mask"] == 3).nonzero().amin(0).tolist() == [0, 8, 4]
    assert (small["mask"] == 3).nonzero().amax(0).tolist() == [1, 15, 19]
    assert small["boxes"][0, 0].tolist() == [4, 8, 20, 16]
    assert small["image"][0, 0, 12, 12] == 200
    assert small["image"][0, 0, 2, 2] == 0
    assert torch.equal(resized(small, 32)["image"], small["image"])


class FakeTrainer:
    current_epoch = 0


def test_the_size_of_training_images_follows_the_schedule(
    make_config: Callable[..., DictConfig],
) -> None:
    data: StoreDataModule = instantiate(make_config(*TINY).data, seed=0)
    data.image_size_schedule = [(1, 32), (3, [64, 96]), (4, 128)]
    data.trainer = trainer = FakeTrainer()
    sizes: list[set[int]] = []
    for trainer.current_epoch in range(5):
        sizes.append({data.train_size(seed) for seed in range(40)})
    assert sizes == [{32}, {32}, {64, 96}, {128}, {128}]
    trainer.current_epoch = 2
    assert [data.train_size(seed) for seed in range(9)] == [data.train_size(s) for s in range(9)]

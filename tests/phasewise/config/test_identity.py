"""Which data a config reads: content counts, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

from phasewise.config import identity
from phasewise.config.fingerprint import plain_config
from phasewise.config.identity import (
    DataIdentity,
    cached_identity,
    data_identity,
    differences,
)
from phasewise.errors import UserError
from phasewise.records import content
from tests.voc_folder import VocFolder

Find = Callable[..., DataIdentity]


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "voc")


@pytest.fixture
def section(make_config: Callable[..., DictConfig], voc: VocFolder, tmp_path: Path) -> Callable:
    def make(*words: str, root: Path | None = None) -> dict[str, Any]:
        cfg = make_config("data=voc", f"data.root={root or voc.root}", "data.image_size=32", *words)
        return plain_config(cfg)["data"] | {"cache_dir": str(tmp_path / "cache")}

    return make


@pytest.fixture
def find(section: Callable[..., dict[str, Any]]) -> Find:
    def get(*words: str, root: Path | None = None) -> DataIdentity:
        found = data_identity(section(*words, root=root), seed=0)
        assert found is not None
        return found

    return get


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (content, identity):
        monkeypatch.setattr(module, "UNSURE_SECONDS", -1000.0)


def changed_splits(before: DataIdentity, after: DataIdentity) -> set[str]:
    return {split for split in before.hashes if before.hashes[split] != after.hashes.get(split)}


def test_the_three_splits_are_hashed_apart(voc: VocFolder, find: Find) -> None:
    before = find()
    assert before.counts == {"train": 4, "val": 2}
    voc.image("train-1").write_bytes(voc.image("train-0").read_bytes())
    assert changed_splits(before, find()) == {"train"}
    voc.annotate("val-1", xmin=5)
    assert changed_splits(before, find()) == {"train", "val"}


@pytest.mark.parametrize("words", [("data.image_size=64",), ("data.augment=[]",), ("seed=3",)])
def test_how_samples_are_used_does_not_count(find: Find, words: tuple[str, ...]) -> None:
    assert find(*words) == find()


def test_a_place_does_not_count(voc: VocFolder, find: Find, tmp_path: Path) -> None:
    before = find()
    shutil.copytree(voc.root, tmp_path / "copy")
    assert find(root=tmp_path / "copy") == before
    (tmp_path / "link").symlink_to(voc.root)
    assert find(root=tmp_path / "link") == before


def test_what_is_not_read_does_not_count(voc: VocFolder, find: Find, settled: None) -> None:
    before = find()
    (voc.root / "README.md").write_text("words")
    voc.add("unlisted")
    os.utime(voc.image("val-0"), (1, 1))
    assert find() == before


@pytest.mark.parametrize("change", ["mask", "list", "labels", "removed", "new list", "first list"])
def test_whatever_is_read_counts(voc: VocFolder, find: Find, settled: None, change: str) -> None:
    if change == "first list":
        shutil.rmtree(voc.root / "ImageSets")
        (voc.root / "ImageSets/Main").mkdir(parents=True)
    before = find()
    assert find() == before
    match change:
        case "mask":
            voc.mask("val-0").write_bytes(voc.mask("val-1").read_bytes()[:-12] + b"\0" * 12)
        case "list":
            voc.list("val", ["val-0", "train-3"])
        case "labels":
            (voc.root / "labels.txt").write_text("background\ndog\ncat\n")
        case "removed":
            voc.xml("val-0").unlink()
        case "new list":  # in a folder that was not there
            (voc.root / "ImageSets/Segmentation").mkdir()
            (voc.root / "ImageSets/Segmentation/val.txt").write_text("train-0\n")
        case "first list":  # in a folder that held none
            voc.list("val", ["train-0", "train-1", "train-2"])
            voc.list("train", ["val-0"])
    assert "val" in changed_splits(before, find())


@pytest.mark.parametrize("file", ["boxes.csv", "../boxes.csv", "{outside}/boxes.csv"])
def test_a_table_counts_wherever_it_lies(
    make_config: Callable[..., DictConfig],
    voc: VocFolder,
    tmp_path: Path,
    settled: None,
    file: str,
) -> None:
    (tmp_path / "outside").mkdir()
    file = file.format(outside=tmp_path / "outside")
    names = [f"JPEGImages/train-{i}.jpg" for i in range(4)]
    table = "".join(f"{name},1,2,30,15\n" for name in names)
    (voc.root / file).write_text(f"file,xmin,ymin,xmax,ymax\n{table}")
    words = ("task=localization", "data=csv", f"data.root={voc.root}", f"data.file={file}")
    data = plain_config(make_config(*words))["data"] | {"cache_dir": str(tmp_path / "cache")}
    before = data_identity(data, seed=0)
    assert before is not None and cached_identity(data) == before
    (voc.root / file).write_text((voc.root / file).read_text().replace("1,2,30", "1,3,30"))
    after = data_identity(data, seed=0)
    assert after is not None and changed_splits(before, after) == {"train", "val", "test"}


@pytest.mark.parametrize("pattern", ["../coco", "../coco/*.json", "../coco/instances_all.json"])
def test_annotations_count_wherever_they_lie(
    make_config: Callable[..., DictConfig],
    voc: VocFolder,
    tmp_path: Path,
    settled: None,
    pattern: str,
) -> None:
    (tmp_path / "coco").mkdir()
    images = [{"id": i, "file_name": f"JPEGImages/train-{i}.jpg"} for i in range(4)]
    boxes = [{"id": i, "image_id": i, "bbox": [1, 2, 20, 10]} for i in range(4)]
    file = tmp_path / "coco/instances_all.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes}))
    words = ("task=localization", "data=coco", f"data.root={voc.root}")
    data = plain_config(make_config(*words, f"data.annotations={pattern}"))["data"]
    data |= {"cache_dir": str(tmp_path / "cache")}
    assert data_identity(data, seed=0) == cached_identity(data)
    file.write_text(file.read_text().replace("[1, 2, 20, 10]", "[1, 3, 20, 10]"))
    assert cached_identity(data) is None


def test_nothing_is_remembered_of_data_that_were_written_meanwhile(
    make_config: Callable[..., DictConfig], voc: VocFolder, tmp_path: Path
) -> None:
    """Images that came while others were decoded have not been listed."""
    shutil.rmtree(voc.root / "ImageSets")
    time.sleep(content.UNSURE_SECONDS + 0.1)  # nobody can set back the time of a change
    words = ("data=voc", f"data.root={voc.root}", "data.image_size=32")
    data = plain_config(make_config(*words))["data"] | {"cache_dir": str(tmp_path / "cache")}
    module = instantiate(data, seed=0)
    module.check_listed()
    voc.add("new")
    identity.remember_identity(data, module)
    assert cached_identity(data) is None
    later = data_identity(data, seed=0)
    assert later is not None and sum(later.counts.values()) == 7


def test_an_answer_is_remembered_without_looking_at_samples_again(
    section: Callable[..., dict[str, Any]], find: Find, settled: None
) -> None:
    assert cached_identity(section()) is None
    found = find()
    assert cached_identity(section("data.batch_size=7")) == found
    assert cached_identity(section("data.split_seed=1")) is None  # another question


@pytest.mark.parametrize("damage", ['{"code": 1}', "{}", "[", "without files"])
def test_a_damaged_cache_is_made_again(
    section: Callable[..., dict[str, Any]],
    find: Find,
    settled: None,
    tmp_path: Path,
    damage: str,
) -> None:
    before = find()
    for path in (tmp_path / "cache").glob("*/*.json"):
        content = json.loads(path.read_text())
        content.pop("files", None)
        content = {key: 5 if path.parent.name == "contents" else it for key, it in content.items()}
        path.write_text(json.dumps(content) if damage == "without files" else damage)
    assert cached_identity(section()) is None
    assert find() == before == cached_identity(section())


def test_other_code_of_the_data_is_another_question(
    section: Callable[..., dict[str, Any]], find: Find, settled: None, monkeypatch: Any
) -> None:
    find()
    monkeypatch.setattr(identity, "_code", lambda target: "other")
    assert cached_identity(section()) is None


def test_bad_samples_are_told_when_the_data_are_listed(
    voc: VocFolder, find: Find, settled: None
) -> None:
    voc.image("train-1").write_text("no image")
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 sample in data.root=.* cannot be used"):
            find()
    skipped = find("data.on_bad=skip")
    assert skipped.counts["train"] == 3
    with pytest.raises(UserError, match=r"train-1"):  # remembered, and still refused
        find()


def test_what_differs_is_named(voc: VocFolder, find: Find, tmp_path: Path) -> None:
    before = find()
    voc.annotate("val-1", xmin=5)
    voc.list("train", ["train-0", "train-1"])
    content = differences(before, find(), tmp_path / "cache")
    assert content == (
        "train: 4 samples there, 2 now (what differs: train-2, train-3); "
        "val: 2 samples there, 2 now (what differs: val-1)"
    )


def test_data_to_be_downloaded_are_not_known_yet(
    make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    words = ("data=voc2012", f"data.root={tmp_path / 'none'}", "data.download=true")
    data = plain_config(make_config(*words))["data"]
    assert data_identity(data, seed=0) is None
    assert not (tmp_path / "none").exists()

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

import localization.data
from localization.data import (
    AnimalsData,
    CocoData,
    CsvData,
    LocalizationData,
    PetsData,
    VocBoxesData,
    YoloData,
)
from localization.synthetic import draw_image
from phasewise.analysis.validation import look_alikes_of
from phasewise.augment.geometry import GEOMETRY
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import AUGMENTATIONS
from phasewise.errors import UserError
from tests.voc_folder import BOX, SIZE, VocFolder

CPU = torch.device("cpu")
SIDE = 24
DRAWN = {"train_images": 5, "val_images": 3, "test_images": 2, "draw_seed": 4}
BLUE = (10, 20, 240)

Make = Callable[..., LocalizationData]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(kind: type[LocalizationData] = AnimalsData, **settings: Any) -> LocalizationData:
        defaults: dict[str, Any] = {
            "image_size": SIDE,
            "resize": "stretch",
            "batch_size": 2,
            "augment": [],
            "on_bad": "error",
            "cache_dir": str(tmp_path / "cache"),
            "ram_limit_mb": 100,
            "seed": 0,
        }
        defaults |= DRAWN if kind is AnimalsData else {"split_seed": 0}
        return kind(**(defaults | settings))

    return made


def rows(data: LocalizationData, split: str) -> dict[str, Tensor]:
    data.setup()
    return data.gather(split, torch.arange(len(data.splits.stores[split])), CPU)


def test_animals_are_drawn_as_named(make: Make) -> None:
    data = make()
    assert set(data.splits.class_names) == {"background", "object"}
    assert data.summary().counts == {"train": 5, "val": 3, "test": 2}
    assert data.splits.names["val"] == ["val-0000", "val-0001", "val-0002"]
    for split in ("train", "val", "test"):
        found = rows(data, split)
        assert {key: (value.shape[1:], value.dtype) for key, value in found.items()} == {
            "image": ((3, SIDE, SIDE), torch.uint8),
            "boxes": ((1, 4), torch.float32),
            "labels": ((1,), torch.int64),
            "index": ((), torch.int64),
        }
        drawn = draw_image(split, 1, size=SIDE, seed=4)
        assert all(np.array_equal(found[key][1], drawn[key]) for key in drawn)


# Files of all kinds


def picture(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (48, 24)) -> None:
    """Grey, and blue in the box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (128, 128, 128))
    image.paste(BLUE, box)
    image.save(path)


THINGS = {f"{i}.png": (4 * i, 2 * i, 4 * i + 16, 2 * i + 8) for i in range(8)}


def make_csv(root: Path, make: Make, **settings: Any) -> LocalizationData:
    lines = ["file,xmin,ymin,xmax,ymax,class"]
    for i, (name, box) in enumerate(THINGS.items()):
        picture(root / name, box)
        lines.append(f"{name},{','.join(map(str, box))},{'dog' if i % 2 else 'cat'}")
    (root / "boxes.csv").write_text("\n".join(lines))
    return make(CsvData, root=str(root), file="boxes.csv", **settings)


def make_coco(root: Path, make: Make, **settings: Any) -> LocalizationData:
    images, annotations = [], []
    for i, (name, (x1, y1, x2, y2)) in enumerate(THINGS.items()):
        picture(root / "images" / name, (x1, y1, x2, y2))
        images.append({"id": i, "file_name": name})
        bbox = [x1, y1, x2 - x1, y2 - y1]
        annotations += [{"image_id": i, "bbox": bbox, "category_id": i % 2}]
        annotations += [{"image_id": i, "bbox": [0, 0, 1, 1], "category_id": i % 2}]
    kinds = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    (root / "a.json").write_text(json.dumps(content))
    settings = {"annotations": "a.json", "object": "largest"} | settings
    return make(CocoData, root=str(root), **settings)


def make_pets(root: Path, make: Make, **settings: Any) -> LocalizationData:
    (root / "annotations/xmls").mkdir(parents=True, exist_ok=True)
    for i, (name, (x1, y1, x2, y2)) in enumerate(THINGS.items()):
        picture(root / "images" / name, (x1, y1, x2, y2))
        tags = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items())
        kind = "dog" if i % 2 else "cat"
        text = (
            f"<annotation><object><name>{kind}</name><bndbox>{box}</bndbox></object></annotation>"
        )
        (root / f"annotations/xmls/{i}.xml").write_text(text)
    return make(PetsData, root=str(root), download=False, **settings)


def make_yolo(root: Path, make: Make, **settings: Any) -> LocalizationData:
    for i, (name, (x1, y1, x2, y2)) in enumerate(THINGS.items()):
        picture(root / "images" / name, (x1, y1, x2, y2))
        centre = ((x1 + x2) / 2 / 48, (y1 + y2) / 2 / 24, (x2 - x1) / 48, (y2 - y1) / 24)
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{i}.txt").write_text(f"{i % 2} {' '.join(map(str, centre))}\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return make(YoloData, root=str(root), **settings)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("build", [make_csv, make_coco, make_pets, make_yolo])
def test_boxes_lie_where_the_pictures_show_them(
    tmp_path: Path, make: Make, build: Any, resize: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    data = build(root, make, resize=resize, image_size=96)
    assert data.splits.class_names == ["background", "cat", "dog"]
    assert not data.splits.problems
    seen = 0
    for split in ("train", "val", "test"):
        found = rows(data, split)
        for name, image, box, label in zip(
            data.splits.names[split], found["image"], found["boxes"], found["labels"], strict=True
        ):
            blue = (image[2].int() - image[0].int()) > 115
            torch.testing.assert_close(box, extent(blue), msg=name)
            number = int(Path(name).stem)
            assert label.tolist() == [2 if number % 2 else 1]
            width, height = (box[0, 2:] - box[0, :2]).tolist()
            assert (width, height) == ((32, 32) if resize == "stretch" else (32, 16))
            seen += 1
    assert seen == len(THINGS)


def extent(marked: Tensor) -> Tensor:
    """The tight box (1, 4) of the true pixels (H, W)."""
    y, x = marked.nonzero().T
    return torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=torch.float32)


def test_voc_folder(tmp_path: Path, make: Make) -> None:
    folder = VocFolder(tmp_path / "voc")
    data = make(VocBoxesData, root=str(folder.root), object="only")
    found = rows(data, "val")
    x1, y1, x2, y2 = BOX
    scale = SIDE / torch.tensor([SIZE[0], SIZE[1], SIZE[0], SIZE[1]])
    expected = torch.tensor([x1 - 1, y1 - 1, x2, y2]) * scale
    torch.testing.assert_close(found["boxes"], expected.expand(2, 1, 4))
    assert found["labels"].tolist() == [[2], [2]]
    assert not data.has_test()


@pytest.mark.parametrize("build", [make_csv, make_coco, make_pets, make_yolo])
def test_what_belongs_together_is_in_one_split(tmp_path: Path, make: Make, build: Any) -> None:
    root = tmp_path / "data"
    root.mkdir()

    def homes(**settings: Any) -> list[set[int]]:
        """Which of the first four are in which split."""
        names = build(root, make, **settings).splits.names
        parts = [{int(Path(name).stem) for name in part} for part in names.values()]
        return [part & {0, 1, 2, 3} for part in parts if part & {0, 1, 2, 3}]

    assert max(len(homes(split_seed=seed, group_by="none")) for seed in range(4)) > 1
    for seed in range(4):
        assert homes(split_seed=seed) == homes(split_seed=seed, group_by="none")
        assert homes(group_by="(^|/)(?=[0-3])", split_seed=seed) == [{0, 1, 2, 3}]


def test_voc_keeps_copies_together(tmp_path: Path, make: Make) -> None:
    folder = VocFolder(tmp_path / "voc")
    for path in folder.root.glob("ImageSets/*/*.txt"):
        path.unlink()
    data = make(VocBoxesData, root=str(folder.root), object="only", group_by="^(train|val)")
    assert {name.split("-")[0] for name in data.splits.names["train"]} == {"train"}
    assert {name.split("-")[0] for name in data.splits.names["val"]} == {"val"}
    assert str(data.splits.warnings[-1]).startswith("data.group_by=^(train|val): 6 of 6 images")


def test_what_a_crowd_is(tmp_path: Path, make: Make) -> None:
    root = tmp_path / "data"
    root.mkdir()
    make_coco(root, make)
    text = (root / "a.json").read_text()
    content = json.loads(text)
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    (root / "a.json").write_text(json.dumps(content))

    def read(**settings: Any) -> LocalizationData:
        data = make(CocoData, root=str(root), annotations="a.json", **settings)
        data.setup()
        return data

    assert sum(read().summary().counts.values()) == len(THINGS)
    with pytest.raises(UserError, match="no object"):
        read(crowds="ignore")
    content["annotations"][0]["iscrowd"] = 0
    (root / "a.json").write_text(json.dumps(content))
    assert sum(read(crowds="objects").summary().counts.values()) == len(THINGS)
    with pytest.raises(UserError, match="no object"):
        read()


def test_bad_files_stop_the_run_or_are_skipped(tmp_path: Path, make: Make) -> None:
    root = tmp_path / "data"
    root.mkdir()
    make_csv(root, make)
    cut = root / "3.png"
    cut.write_bytes(cut.read_bytes()[:60])  # its header is sound
    (root / "5.png").unlink()
    with pytest.raises(UserError, match=r"2 samples .* cannot be used"):
        make(CsvData, root=str(root), file="boxes.csv").setup()
    data = make(CsvData, root=str(root), file="boxes.csv", on_bad="skip")
    assert sum(data.summary().counts.values()) == 6
    assert {problem.file for problem in data.summary().rejected} == {"3.png", "5.png"}


def test_whatever_a_box_depends_on_makes_another_cache(tmp_path: Path, make: Make) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    root.mkdir()

    def caches() -> int:
        make(CsvData, root=str(root), file="boxes.csv").setup()
        return len(list(cache.iterdir()))

    moved = make_csv(root, make).splits.names["val"][0]
    assert caches() == 3
    table = root / "boxes.csv"
    line = next(line for line in table.read_text().splitlines() if line.startswith(moved))
    before = caches()
    table.write_text(table.read_text().replace(line, f"{moved},0,0,7,7,cat"))
    assert caches() == before + 1
    picture(root / moved, (0, 0, 9, 9))
    assert caches() == before + 2
    for settings in ({"image_size": 32}, {"resize": "letterbox"}):
        before = len(list(cache.iterdir()))
        make(CsvData, root=str(root), file="boxes.csv", **settings).setup()
        assert len(list(cache.iterdir())) == before + 3


def test_animals_cache_depends_on_seed_size_and_code(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def caches() -> int:
        return len(list((tmp_path / "cache").iterdir()))

    make().setup()
    make().setup()
    assert caches() == 3
    make(draw_seed=5).setup()
    make(image_size=16).setup()
    assert caches() == 9
    other = tmp_path / "animals.py"
    other.write_text("other code")
    monkeypatch.setattr(localization.data.animals, "__file__", str(other))
    make().setup()
    assert caches() == 12


def test_pets_are_downloaded_only_where_they_are_missing(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "pets"
    calls = []

    def fetch(where: Path) -> None:
        calls.append(where)
        make_pets(where, make)

    monkeypatch.setattr(localization.data, "fetch_pets", fetch)
    with pytest.raises(UserError, match="has no Oxford pets"):
        make(PetsData, root=str(root), download=False).setup()
    assert not calls
    for _ in range(2):
        make(PetsData, root=str(root), download=True).setup()
    assert calls == [root]


def test_real_pet_heads(shared_data: Path, make: Make) -> None:
    data = make(VocBoxesData, root=str(shared_data / "pets_heads"), object="only")
    assert data.summary().counts == {"train": 296, "val": 74, "test": 0}
    train, val = (rows(data, split)["boxes"][:, 0] for split in ("train", "val"))
    found = box_iou(val, train.mean(0, keepdim=True))
    assert found.mean() == pytest.approx(0.377, abs=0.002)  # as the set's README has it
    assert (found > 0.5).float().mean() == pytest.approx(0.243, abs=0.002)


# A box follows its image through augmentation. What is measured is the extent of a white box on
# black after the warp. That is then a quadrilateral, whose extent is the hull of the warped
# corners: what the box must be, as long as none of the corners has left the image.

CANVAS, BATCH = 128, 24
CHAIN = [
    {"flip": {"p": 0.5}},
    {"rotate": {"p": 1, "degrees": 25}},
    {"perspective": {"p": 1, "distortion": 0.3}},
]
STRAIGHT = ("flip", "vflip", "translate", "shift", "scale", "crop")


def filled(margin: int) -> dict[str, Tensor]:
    """White boxes on black, at least so far from the border; a mask of the same."""
    generator = torch.Generator().manual_seed(1)
    batch: dict[str, Tensor] = {
        "image": torch.zeros(BATCH, 3, CANVAS, CANVAS, dtype=torch.uint8),
        "mask": torch.zeros(BATCH, CANVAS, CANVAS, dtype=torch.uint8),
        "boxes": torch.zeros(BATCH, 1, 4),
        "labels": torch.ones(BATCH, 1, dtype=torch.int64),
    }
    for row in range(BATCH):
        x1, y1 = torch.randint(margin, CANVAS // 2 - 16, (2,), generator=generator).tolist()
        x2, y2 = torch.randint(
            CANVAS // 2 + 16, CANVAS - margin, (2,), generator=generator
        ).tolist()
        batch["image"][row, :, y1:y2, x1:x2] = 255
        batch["mask"][row, y1:y2, x1:x2] = 1
        batch["boxes"][row, 0] = torch.tensor([x1, y1, x2, y2])
    return batch


def agreement(before: dict[str, Tensor], augment: list[Any], key: str = "image") -> Tensor:
    """IoU of each box with what is measured in the picture (or the mask), where all is in sight."""
    found = []
    for seed in (1, 2):
        after = Augment(augment)(before, seed)
        for row in range(BATCH):
            box = after["boxes"][row]
            at_border = (box <= 0).any() or (box >= CANVAS).any()
            name = next(iter(augment[0]))
            if after["labels"][row] < 0 or (
                at_border and not (len(augment) == 1 and name in STRAIGHT)
            ):
                continue
            # White is 2.2 or more, black -1.8 or less, and 0 is what lies outside the source.
            marked = (
                after["image"][row].amin(0) > 0.5 if key == "image" else after["mask"][row] == 1
            )
            found.append(box_iou(box, extent(marked))[0, 0])
    return torch.stack(found)


@pytest.mark.parametrize("name", GEOMETRY)
def test_the_box_follows_every_geometric_augmentation(name: Any) -> None:
    before = filled(margin=24 if name == "rotate" else 4)
    found = agreement(before, [{name: {"p": 1}}])
    assert len(found) >= BATCH
    assert found.min() > 0.95
    after = Augment([{name: {"p": 1}}])(before, 1)
    assert not torch.equal(after["boxes"], before["boxes"])  # something has moved


def test_the_box_follows_a_chain_of_flip_rotation_and_perspective() -> None:
    found = agreement(filled(margin=24), CHAIN)
    assert len(found) >= BATCH
    assert found.min() > 0.95


def test_the_box_follows_the_shears_and_turns_of_autoaugment() -> None:
    """By its mask: its colours may make white black."""
    found = agreement(filled(margin=30), [{"autoaugment": {"p": 1}}], "mask")
    assert len(found) >= BATCH
    assert found.min() > 0.95


@pytest.mark.parametrize("name", sorted({*AUGMENTATIONS} - {*GEOMETRY, "autoaugment", "cutmix"}))
def test_other_augmentations_leave_the_box(name: Any) -> None:
    before = filled(margin=4)
    after = Augment([{name: {} if name == "mixup" else {"p": 1}}])(before, 3)
    assert torch.equal(after["boxes"], before["boxes"])
    assert torch.equal(after["labels"], before["labels"])


def test_a_box_that_left_the_image_becomes_padding() -> None:
    before = filled(margin=4)
    after = Augment([{"shift": {"p": 1, "fraction": 1.0}}])(before, 0)
    gone = after["labels"][:, 0] == -1
    assert 0 < gone.sum() < BATCH
    assert (after["boxes"][gone] == 0).all()


def test_look_alikes_in_two_splits_are_told_unless_they_are_kept_together(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["file,xmin,ymin,xmax,ymax"]
    for i in range(20):
        seen = i if i < 19 else int(lines[1].split(".")[0])  # the last is a copy of the first
        pixels = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        if seen != i:
            pixels = np.asarray(Image.open(tmp_path / f"{seen}.png").resize((6, 6)))
        Image.fromarray(pixels).resize((60, 60), Image.Resampling.BICUBIC).save(
            tmp_path / f"{i}.png"
        )
        lines.append(f"{i}.png,4,6,20,26")
    splits = [f"{line},{'val' if i in (5, 20) else 'train'}" for i, line in enumerate(lines[1:], 1)]
    text = "\n".join([f"{lines[0]},split", *splits])
    (tmp_path / "boxes.csv").write_text(text)

    def told(**settings: Any) -> list[str]:
        cache = str(tmp_path / "cache")
        data = CsvData(root=str(tmp_path), image_size=32, cache_dir=cache, **settings)
        return [it.reason for it in data.splits.warnings if it.file == "splits"]

    assert told() == [
        "1 of 2 images of val look like one of train (19.png like 0.png): figures on copies are "
        "too good. Where names decide the split, data.group_by=near keeps them together"
    ]
    (found,) = look_alikes_of({"warnings": [{"file": "splits", "reason": it} for it in told()]})
    assert found == told()[0].partition(": figures")[0], "as the audit reads it"
    assert told() == told(resize="letterbox") != told(group_by="near") == []

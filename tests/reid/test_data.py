from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import reid.data
from phasewise.data.images import Resize, read_image
from phasewise.errors import UserError
from reid.data import FolderData, MarketData, ReidData, VehiclesData, VeriData
from reid.splits import choose_queries, split_identities
from reid.synthetic import draw_image

CPU = torch.device("cpu")
TINY = {"train_identities": 10, "test_identities": 4, "cameras": 3, "shots": 2, "draw_seed": 1}

Make = Callable[..., ReidData]


@pytest.fixture
def make(tmp_path: Path, cache: Path) -> Make:
    def made(kind: type[ReidData] = VehiclesData, **settings: Any) -> ReidData:
        defaults: dict[str, Any] = {
            "image_size": 24,
            "resize": "stretch",
            "batch_size": 8,
            "augment": [],
            "on_bad": "error",
            "cache_dir": str(cache if kind is VehiclesData else tmp_path / "cache"),
            "ram_limit_mb": 100,
            "seed": 0,
            "validation": "identities",
            "validation_fraction": 0.2,
            "split_seed": 0,
            "sampler": "random",
            "images_per_identity": 4,
        }
        if kind is VehiclesData:
            defaults |= TINY
        return kind(**(defaults | settings))

    return made


def column(data: ReidData, split: str, field: str) -> list[int]:
    return data.splits.stores[split][field].tolist()


def identities(data: ReidData, split: str) -> set[int]:
    """Raw identities, train's by way of the class names."""
    labels = set(column(data, split, "label"))
    return {int(data.splits.class_names[i]) for i in labels} if split == "train" else labels


def colour(identity: int, camera: int) -> tuple[int, int, int]:
    return 20 * identity % 256, 40 * camera % 256, 128


def put(path: Path, identity: int, camera: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), colour(identity, camera)).save(path)


@pytest.fixture
def veri(tmp_path: Path) -> Path:
    """Ten identities (3, 5, ... 21) train, two test; by cameras 1 and 2."""
    root = tmp_path / "VeRi"
    for identity in range(3, 23, 2):
        for camera in (1, 2):
            for shot in range(2):
                name = f"{identity:04d}_c{camera:03d}_{shot:08d}_0.png"
                put(root / "image_train" / name, identity, camera)
    for identity in (2, 4):
        for camera in (1, 2):
            name = f"{identity:04d}_c{camera:03d}_00000000_0.png"
            put(root / "image_query" / name, identity, camera)
            put(root / "image_test" / name, identity, camera)
    return root


# What is in the stores


def test_fields_are_as_declared(make: Make) -> None:
    data = make()
    data.setup()
    rows = data.gather("val", torch.tensor([1, 0]), CPU)
    found = {key: (tuple(value.shape), value.dtype) for key, value in rows.items()}
    assert found == {
        "image": ((2, 3, 24, 24), torch.uint8),
        "label": ((2,), torch.int64),
        "camera": ((2,), torch.int64),
        "is_query": ((2,), torch.bool),
        "index": ((2,), torch.int64),
    }


def test_vehicles_are_drawn_as_named(make: Make) -> None:
    data = make()
    data.setup()
    splits = data.splits
    assert data.summary().counts == {"train": 8 * 6, "val": 2 * 3 + 2 * 6, "test": 4 * 3 + 4 * 6}
    assert identities(data, "train") | identities(data, "val") == set(range(10))
    assert not identities(data, "train") & identities(data, "val")
    assert identities(data, "test") == {10, 11, 12, 13}
    for split, row in (("train", 7), ("val", 3), ("test", 20)):
        identity, camera, shot = (
            int(part.lstrip("c")) for part in splits.names[split][row].split("_")
        )
        label = column(data, split, "label")[row]
        assert identity == (int(splits.class_names[label]) if split == "train" else label)
        assert column(data, split, "camera")[row] == camera
        drawn = draw_image(identity, camera, shot, size=24, seed=1)
        assert (splits.stores[split]["image"][row].numpy() == drawn).all()


def test_queries_come_first_and_are_in_the_gallery_too(make: Make) -> None:
    data = make()
    data.setup()
    assert not any(column(data, "train", "is_query"))
    for split in ("val", "test"):
        asked, names = column(data, split, "is_query"), data.splits.names[split]
        count = sum(asked)
        assert asked == [True] * count + [False] * (len(asked) - count)
        assert set(names[:count]) < set(names[count:])
        assert all(name.endswith("_000") for name in names[:count])  # the first shot


def test_labels_count_from_zero_in_sorted_order(make: Make, veri: Path) -> None:
    data = make(VeriData, root=str(veri))
    data.setup()
    names = data.splits.class_names
    assert [int(name) for name in names] == sorted(identities(data, "train"))
    assert len(names) == 8
    assert set(column(data, "train", "label")) == set(range(8))
    for split in ("train", "val", "test"):
        store = data.splits.stores[split]
        for name, label, camera, image in zip(
            data.splits.names[split], store["label"], store["camera"], store["image"], strict=True
        ):
            identity = int(Path(name).name[:4])
            assert identity == (int(names[label]) if split == "train" else int(label))
            assert image[:, 5, 5].tolist() == list(colour(identity, int(camera)))
    assert identities(data, "test") == {2, 4}
    assert column(data, "test", "is_query") == [True] * 4 + [False] * 4


def test_images_are_resized_as_asked(make: Make, veri: Path) -> None:
    data = make(VeriData, root=str(veri), resize="letterbox")
    data.setup()
    name, image = data.splits.names["train"][0], data.splits.stores["train"]["image"][0]
    wanted = Resize(24, "letterbox").image(read_image(veri / name))
    assert (image.numpy() == wanted.transpose(2, 0, 1)).all()
    assert image[:, 0, 0].tolist() == [124, 116, 104]


def test_the_cache_is_used_and_keyed_by_what_matters(
    make: Make, veri: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(VeriData, root=str(veri))
    first.setup()
    drawn = make()
    drawn.setup()
    monkeypatch.setattr(reid.data, "read_image", None)
    monkeypatch.setattr(reid.data.synthetic, "draw_image", None)
    again = make(VeriData, root=str(veri))
    again.setup()
    assert again.summary() == first.summary()
    make().setup()
    for settings in ({"image_size": 16}, {"split_seed": 1}):
        with pytest.raises(TypeError, match="not callable"):
            make(VeriData, root=str(veri), **settings).setup()
    for settings in ({"draw_seed": 2}, {"shots": 1}):
        with pytest.raises(TypeError, match="not callable"):
            make(**settings).setup()


def test_market_without_junk_in_training(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "market"
    for identity in (2, 7, 11):
        for camera in (1, 2):
            put(root / "bounding_box_train" / f"{identity:04d}_c{camera}s1_1_00.jpg", 1, 1)
    put(root / "bounding_box_train" / "-1_c1s1_1_00.jpg", 1, 1)
    put(root / "query" / "0001_c1s1_1_00.jpg", 1, 1)
    for name in ("-1_c1s1_1_00.jpg", "0000_c1s1_1_00.jpg", "0001_c3s1_1_00.jpg"):
        put(root / "bounding_box_test" / name, 1, 1)
    data = make(MarketData, root=str(root), validation_fraction=0.34)
    data.setup()
    assert identities(data, "train") | identities(data, "val") == {2, 7, 11}
    assert column(data, "test", "label") == [1, -1, 0, 1]
    assert column(data, "test", "camera") == [1, 1, 1, 3]


def test_a_folder_without_cameras(make: Make, tmp_path: Path) -> None:
    for number in range(12):
        for shot in range(3):
            put(tmp_path / "set" / f"car {number:02d}" / f"{shot}.jpg", number, 0)
    data = make(FolderData, root=str(tmp_path / "set"))
    data.setup()
    assert data.summary().counts == {"train": 6 * 3, "val": 2 * 3, "test": 4 * 3}
    assert all(name.startswith("car ") for name in data.splits.class_names)
    assert len(data.splits.class_names) == 6
    for split in ("train", "val", "test"):
        assert set(column(data, split, "camera")) == {-1}
    assert sum(column(data, "val", "is_query")) == 2
    assert len(set(data.splits.names["val"])) == 6  # no query is in the gallery


def test_the_cache_knows_the_cameras(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part, identities in (("train", range(6)), ("query", [7]), ("gallery", [7])):
        for identity in identities:
            for camera in (1, 2):
                put(root / part / str(identity) / f"{part}_c{camera}.jpg", identity, camera)
    before = make(FolderData, root=str(root))
    before.setup()
    assert column(before, "test", "camera") == [1, 2, 1, 2]
    put(root / "train" / "0" / "b.jpg", 0, 1)  # one name without a camera, in another split
    after = make(FolderData, root=str(root))
    after.setup()
    assert column(after, "test", "camera") == [-1] * 4


# Validation


def test_a_fifth_of_the_identities_validates(make: Make, veri: Path) -> None:
    data = make(VeriData, root=str(veri))
    data.setup()
    kept, query, gallery = split_identities(data.listing().train, seed=0)
    assert data.splits.names["train"] == [sample.name for sample in kept]
    assert data.splits.names["val"] == [sample.name for sample in (*query, *gallery)]
    assert not data.summary().warnings
    other = make(VeriData, root=str(veri), split_seed=1, validation_fraction=0.4)
    other.setup()
    assert len(identities(other, "val")) == 4


def test_without_validation_all_train_and_that_is_told(make: Make, veri: Path) -> None:
    data = make(VeriData, root=str(veri), validation="none")
    data.setup()
    usual = make(VeriData, root=str(veri))
    usual.setup()
    assert data.splits.names["val"] == usual.splits.names["val"]
    assert len(data.splits.class_names) == 10
    assert identities(data, "val") < identities(data, "train")
    (warning,) = data.summary().warnings
    assert warning.file == "validation=none"
    assert "seen in training" in warning.reason


def test_validation_on_the_test_split_is_told(make: Make, veri: Path) -> None:
    data = make(VeriData, root=str(veri), validation="test")
    data.setup()
    assert data.splits.names["val"] == data.splits.names["test"]
    assert data.splits.stores["val"]["image"] is data.splits.stores["test"]["image"]
    assert len(data.splits.class_names) == 10
    assert [str(warning) for warning in data.summary().warnings] == [
        "validation=test: selection on the test gallery, as published; figures are optimistic"
    ]


def test_the_real_set(make: Make, shared_data: Path) -> None:
    data = make(VeriData, root=str(shared_data / "vehicle_reid_dev"), sampler="identity")
    data.images_per_identity = 2
    data.setup()
    assert data.summary().counts == {"train": 478, "val": 240, "test": 404}
    assert not data.summary().warnings
    batches = list(data.train_dataloader())
    assert len(batches) == 239 // 4
    for batch in batches:
        labels = data.splits.stores["train"]["label"][batch.index].view(4, 2)
        assert (labels[:, 0] == labels[:, 1]).all()
        assert len(labels[:, 0].unique()) == 4
        assert len(batch.index.unique()) == 8


# Sampling


def test_the_sampler_is_chosen(make: Make) -> None:
    for sampler, found in (("random", {False}), ("identity", {True})):
        data = make(sampler=sampler, batch_size=6, images_per_identity=3)
        data.setup()
        labels = data.splits.stores["train"]["label"]
        batches = [labels[batch.index] for batch in data.train_dataloader()]
        assert len(batches) == 8
        groups = [batch.view(2, 3) for batch in batches]
        assert {bool((g == g[:, :1]).all() and g[0, 0] != g[1, 0]) for g in groups} == found
    evaluated = torch.cat([batch.index for batch in data.val_dataloader()])
    assert evaluated.tolist() == list(range(data.summary().counts["val"]))


class _Labels(L.LightningModule):
    """Notes the labels of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch["label"].tolist())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_other_batches_each_epoch(make: Make) -> None:
    data, module = make(sampler="identity", batch_size=6, images_per_identity=3), _Labels()
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    first, second = module.seen[:8], module.seen[8:]
    assert len(second) == 8
    assert first != second
    assert all(len(set(batch)) == 2 for batch in module.seen)


# What is refused


def test_too_few_identities_for_a_batch(make: Make) -> None:
    with pytest.raises(UserError, match="a batch needs 9 identities"):
        make(sampler="identity", batch_size=36).setup()
    make(sampler="identity", batch_size=32).setup()
    make(sampler="random", batch_size=36).setup()
    evaluated = make(sampler="identity", batch_size=36)  # nothing trains
    evaluated.setup("test")
    assert len(evaluated.splits.stores["test"])


def test_bad_samples_are_told_once_and_skipped_on_demand(make: Make, veri: Path) -> None:
    (veri / "image_train" / "car.png").write_text("")
    for folder in ("image_query", "image_test"):
        path = veri / folder / "0002_c001_00000000_0.png"
        path.write_bytes(path.read_bytes()[:-30])  # only decoding finds out
    with pytest.raises(UserError) as caught:
        make(VeriData, root=str(veri)).setup()
    lines = str(caught.value).splitlines()
    assert lines[0] == f"3 samples in data.root={veri} cannot be used:"
    assert lines[1].startswith("  image_train/car.png: no identity and camera in its name")
    assert [line.split(":")[0].strip() for line in lines[2:4]] == [
        "image_query/0002_c001_00000000_0.png",
        "image_test/0002_c001_00000000_0.png",
    ]
    data = make(VeriData, root=str(veri), on_bad="skip")
    data.setup()
    assert data.summary().counts["test"] == 3 + 3
    assert column(data, "test", "is_query") == [True] * 3 + [False] * 3


def test_a_bad_image_in_two_splits_is_one_problem(make: Make, veri: Path) -> None:
    for path in (veri / "image_train").glob("*_00000001_0.png"):
        path.write_bytes(path.read_bytes()[:-30])
    data = make(VeriData, root=str(veri), on_bad="skip", validation="none")
    data.setup()
    assert len(data.summary().rejected) == 20
    assert data.summary().counts["train"] == 20


def test_a_test_split_without_a_valid_query_is_left_out(make: Make, veri: Path) -> None:
    for path in (veri / "image_test").glob("*_c002_*"):
        path.unlink()
    for path in (veri / "image_query").glob("*_c002_*"):
        path.unlink()
    data = make(VeriData, root=str(veri))
    data.setup()
    assert not data.has_test()
    assert data.summary().warnings[-1].file == "test"
    with pytest.raises(UserError, match=r"camera 1, .*; choose data\.validation=identities"):
        make(VeriData, root=str(veri), validation="test").setup()


def test_one_camera_cannot_validate(make: Make) -> None:
    with pytest.raises(UserError, match="the names of all 20 training images say camera 0"):
        make(cameras=1).setup()


@pytest.fixture
def one_camera(veri: Path) -> Path:
    """The same data with the same camera in every name, and another image of each identity."""
    for path in sorted(veri.glob("image_*/*.png")):
        path.rename(path.with_name(path.name.replace("_c002_", "_c001_1_")))
    return veri


def test_the_way_out_of_one_camera_leads_out(make: Make, one_camera: Path) -> None:
    """Each advice led to the next, and the third to the first."""
    with pytest.raises(UserError) as told:
        make(VeriData, root=str(one_camera)).setup()
    assert re.search(r"the names of all \d+ training images say camera 1, ", str(told.value))
    assert str(told.value).count("data.") == 2  # data.root, and one way
    assert "choose data.cameras=ignore" in str(told.value)
    data = make(VeriData, root=str(one_camera), cameras="ignore")
    data.setup()
    assert set(column(data, "val", "camera")) == {-1}
    asked = column(data, "val", "is_query")
    assert 0 < sum(asked) < len(asked)


def test_an_unknown_camera_makes_no_query_its_own_answer(make: Make, veri: Path) -> None:
    """VeRi's queries lie in the gallery too, where only their camera leaves them out."""
    data = make(VeriData, root=str(veri), cameras="ignore")
    data.setup()
    assert "test" not in data.splits.names  # each image of the gallery is one of the queries
    put(veri / "image_test" / "0002_c001_00000009_0.png", 2, 1)
    more = make(VeriData, root=str(veri), cameras="ignore")
    more.setup()
    assert [Path(name).name for name in more.splits.names["test"]] == [
        *(f"000{who}_c00{camera}_00000000_0.png" for who in (2, 4) for camera in (1, 2)),
        "0002_c001_00000009_0.png",
    ]


def test_one_identity_cannot_be_classified(make: Make) -> None:
    with pytest.raises(UserError, match="one identity is left to train on"):
        make(train_identities=2).setup()


def test_vehicle_queries_follow_the_rule_of_all_sets(make: Make) -> None:
    data = make()
    listing = data.listing()
    assert (listing.query, listing.gallery) == choose_queries(listing.gallery)
    assert len({sample.name for sample in (*listing.train, *listing.gallery)}) == 14 * 6
    assert np.unique([sample.camera for sample in listing.train]).tolist() == [0, 1, 2]

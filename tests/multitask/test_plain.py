"""The module under a plain Trainer, with a loader of somebody's own."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from multitask import MultitaskModule, ShapesData, Voc2012Data, VocData
from multitask.class_weights import class_balance
from phasewise.config.fingerprint import plain_config
from phasewise.data.batch import checked_images
from phasewise.errors import UserError
from phasewise.training.build import build_module, offered

Make = Callable[..., DictConfig]
CLASSES = ["background", "cat", "dog"]
SIDE = 64
SMALL: dict[str, Any] = {
    "class_names": CLASSES,
    "image_size": SIDE,
    "backbone": "test_resnet",
    "head_channels": 32,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3},
}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def samples(count: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Noise with a square of one class in it; of each third image only half of the truth."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        image = torch.rand(3, SIDE, SIDE, generator=g) / 2
        mask = torch.zeros(SIDE, SIDE, dtype=torch.long)
        x, y = torch.randint(0, SIDE - 24, (2,), generator=g).tolist()
        label = 1 + i % 2
        image[label, y : y + 24, x : x + 24] += 0.5
        mask[y : y + 24, x : x + 24] = label
        boxes: Tensor | None = torch.tensor([[x, y, x + 24, y + 24]]).float()
        labels: Tensor | None = torch.tensor([label])
        if i % 6 == 2:
            mask[:] = 255
        if i % 6 == 5:
            boxes = labels = None
        found.append({"image": image, "mask": mask, "boxes": boxes, "labels": labels})
    return found


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """As detection loaders do it: what differs in length stays a list."""
    batch: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    return batch | {key: torch.stack(batch[key]) for key in ("image", "mask") if key in batch}


def loader(*keys: str, rows: Sequence[dict[str, Any]] | None = None) -> DataLoader[Any]:
    """Of samples with some of their keys; none: all."""
    found = rows or samples()
    chosen = [{key: row[key] for key in keys or row} for row in found]
    return DataLoader(chosen, batch_size=5, collate_fn=collate)  # type: ignore[arg-type]


class Losses(L.Callback):
    """The training loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.seen.append(float(trainer.callback_metrics["train/loss"]))

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seen.append(float(trainer.callback_metrics["train/loss"]))


def module(**settings: Any) -> MultitaskModule:
    torch.manual_seed(0)
    return MultitaskModule(**{**SMALL, **settings})


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(**{**QUIET, "max_epochs": 2, **settings})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[L.Trainer, MultitaskModule]:
    used = trainer(
        default_root_dir=tmp_path_factory.mktemp("plain"), callbacks=[losses := Losses()]
    )
    trained = module()
    used.fit(trained, loader(), loader())
    used.losses = losses.seen  # type: ignore[attr-defined]
    return used, trained


def test_it_learns_and_logs(fitted: tuple[L.Trainer, MultitaskModule]) -> None:
    first, last = fitted[0].losses  # type: ignore[attr-defined]
    assert last < first
    logged = fitted[0].callback_metrics
    terms = {f"{stage}/loss/{task}" for stage in ("train", "val") for task in fitted[1].weights}
    assert terms | {"train/loss", "val/loss", "val/mIoU", "val/mAP50", "val/IoU/cat"} <= set(logged)
    assert logged["val/mIoU"].isfinite() and logged["val/mAP"].isfinite()


def test_a_checkpoint_needs_no_more_than_its_path(
    fitted: tuple[L.Trainer, MultitaskModule], tmp_path: Path
) -> None:
    used, trained = fitted
    used.save_checkpoint(tmp_path / "a.ckpt")
    again = MultitaskModule.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    batch = collate(samples(4))
    with torch.no_grad():
        images = checked_images(batch, torch.device("cpu"))
        before, after = trained.eval()(images), again(images)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    assert (tmp_path / "a.ckpt").is_file() and again.hparams["class_names"] == CLASSES


def test_predict_gives_masks_and_detections(fitted: tuple[L.Trainer, MultitaskModule]) -> None:
    found = trainer().predict(fitted[1], loader("image"))
    assert found is not None and len(found) == 4
    assert found[0]["mask"].shape == (5, SIDE, SIDE) and found[0]["mask"].dtype == torch.long
    (one, *_) = found[0]["detections"]
    assert one["boxes"].shape == (len(one["scores"]), 4)
    assert one["labels"].dtype == torch.long
    assert len(found[0]["detections"]) == 5
    alone = (
        module(segmentation_head="none").eval().predict_step({"image": torch.rand(1, 3, 64, 64)})
    )
    assert set(alone) == {"detections"}


@pytest.mark.parametrize(
    ("keys", "silent"), [(("mask",), "detection"), (("boxes", "labels"), "segmentation")]
)
def test_a_loader_of_one_task_trains_that_head_alone(keys: tuple[str, ...], silent: str) -> None:
    used, trained = trainer(max_steps=2, max_epochs=-1), module()
    head = getattr(trained.network, silent)
    before = [p.detach().clone() for p in head.parameters()]
    others = [p.detach().clone() for p in trained.network.backbone.parameters()]
    trained.optimizer_config["weight_decay"] = 0.0
    used.fit(trained, loader("image", *keys))
    assert used.callback_metrics[f"train/loss/{silent}"] == 0
    assert all(map(torch.equal, before, head.parameters()))
    assert not all(map(torch.equal, others, trained.network.backbone.parameters()))


def test_padded_boxes_are_those_of_the_lists() -> None:
    lists: dict[str, Any] = {
        "boxes": [torch.tensor([[1.0, 2, 30, 40], [5, 5, 9, 9]]), torch.zeros(0, 4)],
        "labels": [torch.tensor([2, 1]), torch.zeros(0, dtype=torch.long)],
        "difficult": [torch.tensor([False, True]), torch.zeros(0, dtype=torch.bool)],
    }
    padded = {
        "boxes": torch.stack([lists["boxes"][0], torch.full((2, 4), torch.nan)]),
        "labels": torch.tensor([[2, 1], [0, -1]]),
        "difficult": torch.tensor([[False, True], [True, True]]),
    }
    images, built = torch.zeros(2, 3, SIDE, SIDE), module()
    found, same = (built.prepare_targets(batch, images) for batch in (lists, padded))
    assert found.keys() == same.keys()
    assert all(torch.equal(found[key], same[key]) for key in found)
    assert (found["mask"] == 255).all()
    assert found["labels"].tolist() == [[2, 1], [-1, -1]]
    assert found["has_boxes"].tolist() == [True, True]
    lists = {key: [value[0], None] for key, value in lists.items()}
    found = built.prepare_targets(lists, images)
    assert found["has_boxes"].tolist() == [True, False]


WHOLE: dict[str, Any] = {
    "image": torch.rand(2, 3, SIDE, SIDE),
    "mask": torch.zeros(2, SIDE, SIDE, dtype=torch.long),
    "boxes": [torch.tensor([[1.0, 1, 9, 9]]), torch.zeros(0, 4)],
    "labels": [torch.tensor([1]), torch.zeros(0, dtype=torch.long)],
}


def boxes(*values: float) -> dict[str, Any]:
    return {
        "boxes": [torch.zeros(0, 4), torch.tensor([values])],
        "labels": [NONE, torch.tensor([1])],
    }


NONE = torch.zeros(0, dtype=torch.long)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": None}, "batch['image'] is a NoneType, not a tensor"),
        ({"image": torch.rand(2, 3, 96, 96)}, "batch['image'] has 96x96 pixels"),
        ({"image": torch.rand(2, 3, SIDE, SIDE) * 9}, "batch['image'] has values from"),
        ({"mask": torch.zeros(2, 9, 9).long()}, "batch['mask'] has the shape (2, 9, 9)"),
        ({"mask": torch.zeros(2, SIDE, SIDE)}, "batch['mask'] is of torch.float32"),
        (
            {"mask": torch.full((2, SIDE, SIDE), 3)},
            "batch['mask'][0] holds 3; the classes are 0 to 2",
        ),
        ({"boxes": [None]}, "batch['boxes'] has 1 entries for 2 images"),
        ({"labels": torch.tensor([[1]])}, "batch['labels'] is a Tensor; like 'boxes'"),
        ({"boxes": 3}, "batch['boxes'] is a int"),
        ({"boxes": [None, None]}, "batch['labels'][0] is Tensor, but batch['boxes'][0] is None"),
        ({"boxes": [[], None]}, "batch['boxes'][0] is a list, not a tensor or None"),
        ({"boxes": [torch.zeros(1, 5), None]}, "batch['boxes'][0] has the shape (1, 5)"),
        ({"labels": [torch.tensor([1, 2]), NONE]}, "batch['labels'][0] has the shape (2,)"),
        ({"labels": [torch.tensor([1.0]), NONE]}, "batch['labels'][0] is of torch.float32"),
        ({"labels": [torch.tensor([3]), NONE]}, "batch['labels'][0] holds 3; the classes of boxes"),
        ({"labels": [torch.tensor([0]), NONE]}, "batch['labels'][0] holds 0"),
        (boxes(9, 1, 5, 9), "batch['boxes'][1] has (9, 1, 5, 9), x2 < x1"),
        (boxes(1, 1, 5, float("nan")), "batch['boxes'][1] has (1, 1, 5, nan), not finite"),
        (boxes(1, 1, 5, 99), "batch['boxes'][1] has (1, 1, 5, 99), not inside of the image"),
        ({"difficult": [torch.tensor([0.5]), NONE]}, "batch['difficult'][0] is of torch.float32"),
        ({"boxes": torch.zeros(2, 1, 4)}, "batch['labels'] is a list, not a tensor"),
        (
            {"boxes": torch.zeros(2, 1, 4), "labels": torch.full((2, 1), 7)},
            "batch['labels'][0] holds 7",
        ),
        ({"labels": ...}, "the batch has no 'labels'"),
        ({"boxes": ...}, "the batch has no 'boxes'"),
        ({"mask": ..., "boxes": ..., "labels": ...}, "the batch has neither 'mask' ("),
    ],
)
def test_a_wrong_batch_is_refused_in_one_line(
    change: dict[str, Any], told: str, built: MultitaskModule
) -> None:
    batch = {key: value for key, value in {**WHOLE, **change}.items() if value is not ...}
    with pytest.raises(UserError) as error:
        built.training_step(batch, 0)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def built() -> MultitaskModule:
    return module()


def test_without_a_head_its_truth_is_not_asked_for() -> None:
    alone = module(detection_head="none")
    images = WHOLE["image"]
    assert set(alone.prepare_targets({"mask": WHOLE["mask"]}, images)) == {"mask"}
    with pytest.raises(UserError, match="the batch has no 'mask'"):
        alone.prepare_targets({key: WHOLE[key] for key in ("boxes", "labels")}, images)


def test_a_box_that_ends_a_pixel_outside_is_cut_off(built: MultitaskModule) -> None:
    found = built.prepare_targets(boxes(-0.5, 3, 64.5, 9), WHOLE["image"])
    assert found["boxes"][1, 0].tolist() == [0, 3, 64, 9]


def test_the_plateau_lowers_the_rate_when_nothing_improves() -> None:
    still = module(
        optimizer={"_target_": "torch.optim.SGD", "lr": 1e-12},
        scheduler={"name": "plateau", "patience": 0},
        monitor="val/loss",
        mode="min",
        norm="group",
    )
    used = trainer(max_epochs=3)
    used.fit(still, loader(rows=samples(5)), loader(rows=samples(5)))
    assert used.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-14)


@pytest.mark.parametrize("balance", ["uncertainty", "dwa", "gradnorm", "pcgrad"])
def test_every_balance_works(balance: str) -> None:
    trained = module(loss_balance=balance)
    before = [p.detach().clone() for p in trained.network.parameters()]
    trainer(max_epochs=3 if balance == "dwa" else 1).fit(trained, loader(rows=samples(5)))
    assert all(p.isfinite().all() for p in trained.parameters())
    assert not all(map(torch.equal, before, trained.network.parameters()))
    if balance == "dwa":  # only from the third epoch on: it has seen the means of two
        assert trained.balance.weights.sum() == pytest.approx(2)
        assert trained.balance.weights[0] != 1


def test_classes_are_weighed_by_the_masks_of_the_loader(tmp_path: Path) -> None:
    rows = samples(6)
    wanted = class_balance(torch.stack([row["mask"] for row in rows]), len(CLASSES))
    assert wanted[0] < 0.5
    trained = module(loss_class_weights="balanced")
    used = trainer(max_epochs=1)
    shuffled = DataLoader(rows, 5, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    used.fit(trained, shuffled)
    assert trained.segmentation_loss.class_weights is not None
    torch.testing.assert_close(trained.segmentation_loss.class_weights, wanted)
    used.save_checkpoint(tmp_path / "a.ckpt")
    again = MultitaskModule.load_from_checkpoint(tmp_path / "a.ckpt")
    trainer(max_steps=1).fit(again, loader("image", "mask", rows=samples(5, seed=1)))
    torch.testing.assert_close(again.segmentation_loss.class_weights, wanted)


def test_class_weights_may_be_given() -> None:
    weights = module(loss_class_weights=[1, 2, 0.5]).segmentation_loss.class_weights
    assert weights is not None and weights.tolist() == [1, 2, 0.5]


@pytest.fixture(scope="module")
def shapes(cache: Path) -> ShapesData:
    return ShapesData(
        image_size=SIDE,
        train_images=8,
        val_images=4,
        test_images=4,
        batch_size=4,
        cache_dir=str(cache),
    )


def test_our_data_under_a_plain_trainer(shapes: ShapesData) -> None:
    shapes.setup()
    info = shapes.describe()
    trained = module(**info, loss_class_weights="balanced")
    used = trainer(max_epochs=1)
    used.fit(trained, datamodule=shapes)
    masks = shapes.splits.stores["train"]["mask"]
    expected = class_balance(masks, len(info["class_names"]))
    assert torch.equal(trained.segmentation_loss.class_weights, expected)  # type: ignore[arg-type]
    assert {"val/mIoU", "val/mAP"} <= set(used.callback_metrics)
    (scores,) = used.test(trained, datamodule=shapes, verbose=False)
    assert "test/mIoU" in scores
    found = used.predict(trained, datamodule=shapes)
    assert found is not None and found[0]["mask"].shape == (4, SIDE, SIDE)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "the data have the classes background, "),
        ({"class_names": None, "image_size": 96}, "the data have images of 64x64 pixels, but"),
    ],
)
def test_data_of_another_kind_are_refused(
    shapes: ShapesData, settings: dict[str, Any], told: str
) -> None:
    names = shapes.splits.class_names if "class_names" in settings else CLASSES
    with pytest.raises(UserError) as error:
        trainer().fit(module(**{**settings, "class_names": names}), datamodule=shapes)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"class_names": "abc"}, "class_names='abc': must be a list of different names"),
        ({"class_names": ["one"]}, "class_names=['one']: must be a list"),
        ({"image_size": 50}, "image_size=50: must be a multiple of 32"),
        ({"segmentation_head": "unett"}, "segmentation_head=unett: not one of unet, fcn, "),
        ({"detection_head": "fpm"}, "detection_head=fpm: not one of fpn, none; did you mean fpn?"),
        (
            {"segmentation_head": "none", "detection_head": "none"},
            "segmentation_head=none and detection_head=none: nothing is left to train",
        ),
        (
            {"loss_class_weights": "balance"},
            "loss_class_weights=balance: not one of none, balanced",
        ),
        ({"loss_class_weights": [1, 2]}, "loss_class_weights=[1, 2]: must be none, balanced, or 3"),
        (
            {"loss_class_weights": [1, 2, float("nan")]},
            "loss_class_weights=[1, 2, nan]: must be none, balanced, or 3",
        ),
        (
            {"segmentation_head": {"_target_": "nowhere.Head"}},
            "segmentation_head: no package nowhere here",
        ),
        (
            {"segmentation_head": {"_target_": "somebodys_heads.Head", "widht": 3}},
            "segmentation_head: somebodys_heads.Head cannot be made: Head.__init__() got",
        ),
        (
            {"segmentation_head": {"_target_": "builtins.list"}},
            "segmentation_head: builtins.list cannot be made: list expected at most 1 argument",
        ),
        ({"segmentation_head": {"width": 3}}, "segmentation_head: {'width': 3} has no _target_"),
        (
            {"loss_segmentation": {"_target_": "builtins.dict"}},
            "loss_segmentation: builtins.dict makes a dict, which is no torch Module",
        ),
        (
            {
                "loss_segmentation": {"_target_": "torch.nn.Identity"},
                "loss_class_weights": "balanced",
            },
            "loss_class_weights=balanced: they are of the project's own losses",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(told)}[^\n]*$"):
        module(**settings)


HEAD = """
from torch import nn

class Head(nn.Module):
    def __init__(self, channels, num_classes, width, up=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels[-1], width, 1), nn.ReLU(), nn.Conv2d(width, num_classes, 1)
        )
        self.up = up

    def forward(self, features):
        return nn.functional.interpolate(self.layers(features[-1]), scale_factor=self.up)
"""
OWN = {"_target_": "somebodys_heads.Head", "width": 3}


@pytest.fixture(autouse=True)
def somebodys_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package outside of the project."""
    (tmp_path / "somebodys_heads.py").write_text(HEAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_heads", raising=False)


def test_a_head_and_a_loss_of_ones_own(tmp_path: Path) -> None:
    own_loss = {"_target_": "torch.nn.CrossEntropyLoss", "ignore_index": 255}
    trained = module(segmentation_head=OWN, loss_segmentation=own_loss)
    assert type(trained.network.segmentation).__name__ == "Head"
    rows = samples(10)
    for row in rows[:5]:
        row["mask"][:] = 255  # the mean over no pixel is NaN, but nobody asks for it
    used = trainer(max_epochs=1)
    used.fit(trained, loader(rows=rows), loader(rows=rows))
    assert used.callback_metrics["train/loss/segmentation"].isfinite()
    used.save_checkpoint(file := tmp_path / "a.ckpt")
    both = (
        r"\(loss_segmentation=torch.nn.CrossEntropyLoss, segmentation_head=somebodys_heads.Head\)"
    )
    with pytest.raises(UserError, match=rf"a\.ckpt names code from outside .*{both}"):
        MultitaskModule.load_from_checkpoint(file)
    with pytest.raises(UserError, match=r"load_from_checkpoint\(path, loss_segmentation=\.\.\.\)$"):
        MultitaskModule.load_from_checkpoint(file, segmentation_head=OWN)
    again = MultitaskModule.load_from_checkpoint(
        file, segmentation_head=OWN, loss_segmentation=own_loss
    )
    batch = collate(rows)
    assert torch.equal(
        again.eval().predict_step(batch)["mask"], trained.eval().predict_step(batch)["mask"]
    )


def test_what_an_own_head_returns_is_looked_at() -> None:
    wrong = module(segmentation_head={**OWN, "up": 16})
    told = (
        r"segmentation_head: Head returned a tensor of the shape \(2, 3, 32, 32\); wanted is logits"
    )
    with pytest.raises(UserError, match=told):
        wrong.training_step(WHOLE, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"hyper_parameters": {"class_names": CLASSES, "_target_": "os.system"}},
        {"hparams": {"segmentation_head": {"_target_": "os.system"}}, "hyper_parameters": {}},
        {"hyper_parameters": {"network": {"inner": [{"_target_": "torch.nn.Linear"}]}}},
    ],
)
def test_a_checkpoint_chooses_no_code(arguments: dict[str, Any], tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {}, "pytorch-lightning_version": "2.5.0", **arguments}, tmp_path / "a"
    )
    with pytest.raises(UserError, match="code from outside of this project"):
        MultitaskModule.load_from_checkpoint(tmp_path / "a")


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "thing": Path()}, tmp_path / "a")
    with pytest.raises(UserError, match="holds more than weights and settings") as error:
        MultitaskModule.load_from_checkpoint(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_the_projects_own_parts_load_by_the_path(tmp_path: Path) -> None:
    own = {"_target_": "multitask.networks.Unet", "dropout": 0.0}
    trained = module(segmentation_head=own)
    used = trainer(max_epochs=1)
    used.fit(trained, loader(rows=samples(5)))
    used.save_checkpoint(tmp_path / "a.ckpt")
    again = MultitaskModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.state_dict().keys() == trained.state_dict().keys()


def test_the_defaults_are_those_of_the_config(make_config: Make, shapes: ShapesData) -> None:
    config = plain_config(make_config("task=multitask"))
    there = offered(config, {"class_names": CLASSES, "image_size": SIDE})
    parameters = inspect.signature(MultitaskModule).parameters
    keys = [*config["model"], *(f"loss_{key}" for key in config["loss"]), "monitor", "mode"]
    assert {key: parameters[key].default for key in keys} == {key: there[key] for key in keys}
    known = {"class_names", "image_size", "optimizer", "scheduler"}
    assert set(parameters) == {*keys} | known
    assert isinstance(
        build_module(config, {"class_names": CLASSES, "image_size": SIDE}), MultitaskModule
    )


@pytest.mark.parametrize(
    ("choice", "kind", "given"),
    [
        ("data=shapes", ShapesData, {}),
        ("data=voc data.root=.", VocData, {"root": "."}),
        ("data=voc2012 data.download=true", Voc2012Data, {"download": True}),
    ],
)
def test_the_defaults_of_the_data_are_those_of_the_config(
    make_config: Make, choice: str, kind: type[Any], given: dict[str, Any]
) -> None:
    config = plain_config(make_config("task=multitask", *choice.split()))["data"]
    data = kind(**given)
    config.pop("_target_")
    names = {"train_images": "train", "val_images": "val", "test_images": "test"}
    for key, value in config.items():
        if key in names:
            assert data.counts[names[key]] == value
        elif key == "augment":
            assert data.hparams["augment"] == value
        elif key == "root":
            assert data.root == Path(value)
        elif key != "cache_dir":
            assert getattr(data, key) == value, key

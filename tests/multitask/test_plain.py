"""The module under a plain Trainer, with a loader of somebody's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from multitask import MultitaskModule, ShapesData, Voc2012Data, VocData
from multitask.class_weights import class_balance
from phasewise.config.fingerprint import plain_config
from phasewise.data.batch import checked_images
from phasewise.errors import UserError
from phasewise.training.build import available_arguments, build_module
from tests.multitask.plain import (
    CLASSES,
    SIDE,
    Losses,
    collate,
    loader,
    module,
    samples,
    trainer,
)

Make = Callable[..., DictConfig]


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
    shuffled: DataLoader[Any] = DataLoader(rows, 5, shuffle=True, collate_fn=collate)
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


def test_the_defaults_are_those_of_the_config(make_config: Make, shapes: ShapesData) -> None:
    config = plain_config(make_config("task=multitask"))
    there = available_arguments(config, {"class_names": CLASSES, "image_size": SIDE})
    parameters = inspect.signature(MultitaskModule).parameters
    keys = [*config["model"], *(f"loss_{key}" for key in config["loss"]), "monitor", "mode"]
    assert {key: parameters[key].default for key in keys} == {key: there[key] for key in keys}
    known = {"class_names", "image_size", "optimizer", "scheduler", "finetuning"}
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
        elif key in ("validation", "holdout"):
            assert getattr(data.held_out, key) == value
        elif key != "cache_dir":
            assert getattr(data, key) == value, key

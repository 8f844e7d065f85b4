"""Plain Lightning: a person's own loader, trainer and checkpoint, nothing of ours around them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from localization import (
    AnimalsData,
    CocoData,
    CsvData,
    LocalizationModule,
    PetsData,
    VocBoxesData,
    YoloData,
)
from phasewise.config.fingerprint import plain_config
from phasewise.errors import UserError
from phasewise.training.build import available_arguments

SIDE = 64
NAN = math.nan
SMALL: dict[str, Any] = {"image_size": SIDE, "backbone": "test_resnet"}


def samples() -> Any:
    """Noise with a bright box; the last image has none."""
    generator = torch.Generator().manual_seed(0)
    found: list[dict[str, Tensor]] = []
    for _ in range(20):
        x, y = torch.randint(0, 24, (2,), generator=generator).tolist()
        image = 0.3 * torch.rand(3, SIDE, SIDE, generator=generator)
        image[:, y : y + 32, x : x + 32] += 0.6
        found.append({"image": image, "box": torch.tensor([x, y, x + 32.0, y + 32.0])})
    found[-1]["box"] = torch.full((4,), NAN)
    return found


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **settings)


class Losses(L.Callback):
    def __init__(self) -> None:
        self.train: list[float] = []
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        if "train/loss" in trainer.callback_metrics:
            self.train.append(float(trainer.callback_metrics["train/loss"]))


def test_a_plain_loader_trains_and_a_checkpoint_predicts_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    losses = Losses()
    fit = trainer(tmp_path, max_epochs=2, callbacks=[losses])
    module = LocalizationModule(**SMALL)
    loader: DataLoader[Any] = DataLoader(samples(), 4)
    fit.fit(module, loader, loader)
    assert float(fit.callback_metrics["train/loss"]) < losses.train[0]
    assert {"val/loss", "val/IoU", "val/acc50", "val/acc75"} <= set(fit.callback_metrics)
    fit.save_checkpoint(tmp_path / "x.ckpt")
    again = LocalizationModule.load_from_checkpoint(tmp_path / "x.ckpt").eval()
    images = torch.stack([one["image"] for one in samples()])
    with torch.no_grad():
        one, other = (it.eval().predict_step({"image": images})["boxes"] for it in (module, again))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    parts: Any = fit.predict(again, loader)
    torch.testing.assert_close(torch.cat([it["boxes"] for it in parts]), one, atol=1e-3, rtol=0)
    fractions = again.deployed(again.prepare({"image": images}, targets=False)["image"])
    torch.testing.assert_close(one, fractions["boxes"].detach() * SIDE)


def test_a_plateau_lowers_the_rate(tmp_path: Path) -> None:
    """The loss of weights that do not move does not improve."""
    losses = Losses()
    loader: DataLoader[Any] = DataLoader(samples(), 10)
    module = LocalizationModule(
        **SMALL,
        norm="group",
        optimizer={"_target_": "torch.optim.SGD", "lr": 1e-12},
        scheduler={"name": "plateau", "patience": 0},
    )
    trainer(tmp_path, max_epochs=3, callbacks=[losses]).fit(module, loader, loader)
    assert losses.rates == pytest.approx([1e-12, 1e-12, 1e-13])


def test_our_data_under_a_plain_trainer(tmp_path: Path) -> None:
    counts: dict[str, Any] = {"train_images": 8, "val_images": 4, "test_images": 4}
    data = AnimalsData(image_size=SIDE, cache_dir=str(tmp_path / "cache"), **counts)
    fit = trainer(tmp_path, max_epochs=1)
    module = LocalizationModule(**SMALL)
    fit.fit(module, datamodule=data)
    assert "val/IoU" in fit.callback_metrics
    parts: Any = fit.predict(module, datamodule=data)
    assert parts[0]["boxes"].shape == (4, 4)


def test_an_image_without_an_object_counts_for_nothing() -> None:
    module = LocalizationModule(**SMALL)
    box = torch.tensor([[8.0, 8, 40, 40], [NAN] * 4])
    batch = module.prepare({"image": torch.rand(2, 3, SIDE, SIDE), "box": box})
    assert batch["labels"].tolist() == [[1], [-1]]
    assert batch["boxes"].tolist() == [[[8, 8, 40, 40]], [[0] * 4]]


GOOD = [4.0, 4.0, 32.0, 32.0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"box": None}, "the batch has no 'box'"),
        ({"box": [GOOD, GOOD]}, "batch['box'] is a list, not a tensor"),
        ({"box": torch.ones(2, 1, 4)}, "batch['box'] has the shape (2, 1, 4), wanted is (B, 4)"),
        ({"box": torch.ones(2, 4).bool()}, "batch['box'] is of torch.bool"),
        ({"box": torch.tensor([GOOD, [9.0, 4, 9, 8]])}, "batch['box'][1] = [9, 4, 9, 8] is empty"),
        (
            {"box": torch.tensor([GOOD, [9.0, NAN, 20, 20]])},
            "batch['box'][1] = [9, nan, 20, 20] is",
        ),
        ({"box": torch.tensor([GOOD, [9.0, 4, math.inf, 8]])}, "is not finite"),
        ({"box": torch.tensor([[9.0, 4, 66, 8], GOOD])}, "batch['box'][0] = [9, 4, 66, 8] leaves"),
        ({"box": torch.tensor([[0.1, 0.1, 0.5, 0.5]] * 2)}, "not fractions of the side"),
        ({"image": torch.rand(2, 1, SIDE, SIDE)}, "batch['image'] has the shape"),
    ],
)
def test_a_batch_that_cannot_be_used_is_refused(change: dict[str, Any], told: str) -> None:
    module = LocalizationModule(**SMALL)
    batch = {"image": torch.rand(2, 3, SIDE, SIDE), "box": torch.tensor([GOOD, GOOD])} | change
    with pytest.raises(UserError) as error:
        module.training_step({key: it for key, it in batch.items() if it is not None}, 0)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"head": "pooled"},
        {"stride": 4},
        {"loss": "iou"},
        {"finetuning": {"freeze_epochs": -1}},
        {"finetuning": {"layer_decay": 0.0}},
        {"finetuning": {"backbone_lr_factor": 0.0}},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).rpartition("_")[2]):
        LocalizationModule(**(SMALL | wrong))


def test_defaults_are_those_of_the_config(make_config: Callable[..., DictConfig]) -> None:
    config = plain_config(make_config("task=localization"))
    info = {"class_names": ["background", "object"], "image_size": 64}
    parameters = inspect.signature(LocalizationModule).parameters
    known = available_arguments(config, info)
    own = {"loss" if key == "name" else f"loss_{key}" for key in config["loss"]}
    own |= {*config["model"]}
    assert own <= set(parameters)
    for name in own | {"monitor", "mode", "image_size"}:
        assert parameters[name].default == known[name], name
    assert list(parameters["class_names"].default) == info["class_names"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("animals", AnimalsData),
        ("voc_boxes", VocBoxesData),
        ("csv", CsvData),
        ("coco", CocoData),
        ("yolo", YoloData),
        ("pets", PetsData),
    ],
)
def test_data_have_the_defaults_of_the_config(
    name: str, kind: type, make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    root = {} if name == "animals" else {"root": str(tmp_path)}
    words = [f"data.root={tmp_path}"] if root else []
    cfg = make_config("task=localization", f"data={name}", *words)
    wanted = dict(instantiate(cfg.data, _convert_="all").hparams)
    found = dict(kind(**root).hparams)
    for hparams in (wanted, found):
        del hparams["cache_dir"]
    assert found == wanted

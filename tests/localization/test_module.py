"""The pipeline as a whole: real runs on tiny drawings and on the real pets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torchvision.ops import box_iou

from localization.metrics import paired_iou
from localization.module import true_boxes
from localization.networks import boxes_from_corners, cut_to_image
from phasewise.config.fingerprint import plain_config
from phasewise.errors import UserError
from phasewise.inference.restore import restore
from phasewise.records.record import read_record
from phasewise.training.build import build_module
from phasewise.training.run import train
from tests.keys import built
from tests.localization.conftest import TINY_ANIMALS

Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def done(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("done")
    train(make_config(*TINY_ANIMALS, "trainer.max_epochs=2", "figures.images=2"), directory)
    return directory


def test_a_run_stands_beside_its_trivial_predictors(done: Path) -> None:
    record = read_record(done)
    assert record is not None
    assert record.status == "completed"
    assert record.test is not None
    assert set(record.baselines) == {"mean_box", "center_box", "random_box"}
    for scores in record.baselines.values():
        assert {"val/IoU", "val/acc50", "val/acc75", "test/IoU"} <= set(scores)
    assert {"val/IoU", "val/loss/smooth_l1", "val/loss/giou"} <= set(record.best)


def test_the_figures_are_there(done: Path) -> None:
    names = {path.stem for path in (done / "figures").glob("*.png")}
    own = {"best", "worst", "iou_histogram", "iou_by_size", "iou_by_border"}
    assert names == own | {f"test_{name}" for name in own} | {"curves"}


def test_images_by_their_iou_are_counted_with_the_best_weights(
    done: Path, make_config: Make
) -> None:
    record = read_record(done)
    assert record is not None
    assert [one.name for one in record.notes.shares] == ["iou_bands", "test_iou_bands"]
    data = instantiate(make_config(*TINY_ANIMALS).data, seed=0)
    data.setup()
    batch = data.prepared("val", torch.arange(4), torch.device("cpu"))
    truth = batch["boxes"][:, 0]
    with torch.no_grad():
        boxes = restore(done).module.eval()(batch["image"])["boxes"] * 32
    mean = data.splits.stores["train"]["boxes"][:, 0].mean(0)
    for name, predicted in (("network", boxes), ("mean_box", mean.expand(4, 4))):
        ious = box_iou(predicted, truth).diag().tolist()
        counts = np.histogram(ious, [0, 0.5, 0.7, 0.9, 1.0])[0] / 4
        assert [*record.notes.shares[0].bars[name].values()] == counts.tolist()


def test_the_validation_loss_is_a_mean_over_images(make_config: Make, tmp_path: Path) -> None:
    """Not over batches, of which the last one may be smaller."""
    still = ("optimizer.lr=1e-12", "model.norm=group", "data.val_images=5")
    losses = []
    for size in (1, 4, 5):
        train(make_config(*TINY_ANIMALS, *still, f"data.batch_size={size}"), tmp_path / str(size))
        record = read_record(tmp_path / str(size))
        assert record is not None
        losses.append(record.last["val/loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_frozen_backbone_stays_as_it_is(make_config: Make, tmp_path: Path) -> None:
    cfg = make_config(*TINY_ANIMALS, "finetuning.freeze_epochs=2", "trainer.max_epochs=3")
    data = instantiate(cfg.data, seed=0)
    data.setup()
    module = build_module(plain_config(cfg), data.describe())
    states = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            states.append({k: v.clone() for k, v in module.network.state_dict().items()})

    start = {k: v.clone() for k, v in module.network.state_dict().items()}
    L.Trainer(
        max_epochs=3, logger=False, callbacks=[Watch()], default_root_dir=tmp_path, barebones=False
    ).fit(module, datamodule=data)

    def moved(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> bool:
        return any(not before[k].equal(after[k]) for k in before if k.startswith(part))

    assert not moved(start, states[1], "backbone.")
    assert moved(start, states[0], "head.")
    assert moved(states[1], states[2], "backbone.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("loss.box_weight=0", "loss.iou_weight=0"), "nothing is left to learn from"),
        (("finetuning.freeze_epochs=1",), "must be less than trainer.max_epochs=1"),
        (("finetuning.layer_decay=0",), "must be a number in (0, 1]"),
        (("loss.name=iou",), "loss.name=iou: not one of smooth_l1"),
        (("model.head=pooled",), "model.head=pooled: not one of points, spatial, linear"),
        (("objective.metric=val/mAP",), "not one of val/loss, val/IoU, val/acc50, val/acc75"),
    ],
)
def test_what_does_not_go_together_is_refused(
    make_config: Make, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError) as error:
        make_config(*TINY_ANIMALS, *words)
    assert told in str(error.value)


def test_the_published_recipe(make_config: Make) -> None:
    cfg = make_config("preset=localization_published")
    assert (cfg.model.backbone, cfg.model.head, cfg.model.dropout_rate) == (
        "resnet18",
        "linear",
        0.5,
    )
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (1e-3, 1e-4)
    assert (cfg.scheduler.monitor, cfg.scheduler.factor, cfg.scheduler.patience) == (
        "val/loss",
        0.1,
        3,
    )
    assert (cfg.data.image_size, cfg.data.batch_size) == (256, 32)


def test_real_heads_train(make_config: Make, shared_data: Path, tmp_path: Path) -> None:
    words = [word for word in TINY_ANIMALS if "_images=" not in word]
    real = ("data=voc_boxes", f"data.root={shared_data / 'pets_heads'}")
    train(make_config(*words, *real, "trainer.limit_train_batches=2"), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert record.data["counts"] == {"train": 296, "val": 74, "test": 0}
    assert record.baselines["mean_box"]["val/IoU"] == pytest.approx(0.377, abs=0.005)
    assert record.baselines["mean_box"]["val/acc50"] == pytest.approx(0.243, abs=0.005)


def test_raw_coordinates_reach_the_loss_and_boxes_everything_else(make_config: Make) -> None:
    words = ("model.head=linear", "model.box=raw", "loss.name=mse")
    module, data = built(make_config(*TINY_ANIMALS, *words))
    nn.init.normal_(module.network.head.box.weight, std=30.0)
    batch = data.prepared("val", torch.arange(4), torch.device("cpu"))
    outputs = module.eval()(batch["image"])
    raw, boxes = outputs["coordinates"], outputs["boxes"]
    assert raw.abs().max() > 1
    torch.testing.assert_close(boxes, cut_to_image(boxes_from_corners(raw)))
    truth, _ = true_boxes(batch)
    (loss,) = module.loss_terms(outputs, batch).values()
    torch.testing.assert_close(loss, (raw - truth).square().mean())
    module.update_metrics(outputs, batch)
    wanted = paired_iou(boxes, truth).mean().item()
    assert module.compute_metrics("val")["IoU"] == pytest.approx(wanted)
    assert set(module.deployed(batch["image"])) == {"boxes"}
    side = batch["image"].shape[-1]
    torch.testing.assert_close(module.predict_step(batch)["boxes"], boxes * side)
    # in training nothing is cut: an IoU loss would not pull a box back into the image
    assert module.train()(batch["image"])["boxes"].abs().max() > 1

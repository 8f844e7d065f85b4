"""The pipeline as a whole: real runs on tiny drawings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.records.record import read_record
from phasewise.training.run import train
from reid.module import ReidModule
from tests.reid.conftest import TINY_REID

Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def done(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("done")
    words = ("trainer.max_epochs=2", "figures.images=2", "evaluation.max_rank=12")
    train(make_config(*TINY_REID, *words), directory)
    return directory


def test_a_run_has_scores_but_no_validation_loss(done: Path) -> None:
    record = read_record(done)
    assert record is not None
    assert record.status == "completed"
    assert record.test is not None
    names = {"mAP", "mINP", "rank1", "rank5", "rank10"}
    assert set(record.best) == {f"val/{name}" for name in names} | {
        "train/loss",
        "train/loss/id",
        "train/loss/metric",
        "train/positive_share",
    }
    assert set(record.test) == {f"test/{name}" for name in names}
    assert {"random", "mean_colour", "untrained"} == set(record.baselines)
    assert "test/mAP" in record.baselines["random"]


def test_the_untrained_network_is_scored_on_the_device_of_the_run(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[torch.device] = []
    before: list[list[torch.device]] = []
    original = ReidModule.to

    def to(self: ReidModule, device: torch.device) -> Any:
        moved.append(device)
        return original(self, device)

    def baselines(self: ReidModule, data: Any, split: str) -> dict[str, Any]:
        before.append(list(moved))
        raise KeyboardInterrupt  # the rest of the run does not matter

    monkeypatch.setattr(ReidModule, "to", to)
    monkeypatch.setattr(ReidModule, "baselines", baselines)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(*TINY_REID, "trainer.accelerator=cpu"), tmp_path)
    assert before == [[torch.device("cpu")]]


def test_figures_and_the_projection_are_there(done: Path) -> None:
    names = {path.stem for path in (done / "figures").glob("*.png")}
    own = {"best", "worst", "cmc"}
    assert names == own | {f"test_{name}" for name in own} | {"curves"}
    assert list(done.rglob("tensors.tsv"))
    assert list(done.rglob("sprite.png"))


@pytest.mark.slow
def test_the_share_of_anchors_with_a_positive_depends_on_the_sampler(
    make_config: Make, done: Path, tmp_path: Path
) -> None:
    (first, _) = read_history(done)
    assert first["train/positive_share"] == 1
    words = ("data.sampler=random", "data.train_identities=40", "data.batch_size=4")
    train(make_config(*TINY_REID, *words), tmp_path)
    (row,) = read_history(tmp_path)
    assert row["train/positive_share"] < 0.8


def test_selection_on_test_data_stands_in_the_record(make_config: Make, tmp_path: Path) -> None:
    train(make_config(*TINY_REID, "data.validation=test"), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert record.test is not None
    assert record.test["test/mAP"] == record.best["val/mAP"]
    assert [w["file"] for w in record.data["warnings"]] == ["validation=test"]


@pytest.mark.parametrize("preset", ["reid_coursework", "reid_strong"])
def test_presets_are_configs_like_any_other(make_config: Make, preset: str) -> None:
    cfg = make_config(f"preset={preset}", "optimizer.lr=1e-5", "data.image_size=64")
    assert (cfg.task.name, cfg.optimizer.lr, cfg.data.image_size) == ("reid", 1e-5, 64)


def test_the_coursework_is_what_was_published(make_config: Make) -> None:
    cfg = make_config("preset=reid_coursework")
    assert cfg.model.backbone == "mobilenet_v3_small"
    assert (cfg.data.sampler, cfg.data.batch_size, cfg.data.image_size) == ("random", 64, 224)
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.optimizer.amsgrad) == (3e-4, 5e-4, 1)
    assert (cfg.loss.margin, cfg.loss.label_smoothing, cfg.model.neck) == (0.3, 0.0, "none")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data.batch_size=9",), "data.batch_size=9: must be a multiple of data.images_per_"),
        (("data.batch_size=2",), "must be at least twice data.images_per_identity"),
        (("data.cameras=1",), "data.cameras=1"),
        (("loss.id_weight=0", "loss.metric=none"), "nothing is left to learn from"),
        (("loss.mining=semi_hard", "loss.margin=soft"), "needs loss.margin as a number"),
        (("loss.margin=hard",), "loss.margin=hard: must be soft or a number >= 0"),
        (("data.validation=none",), "data.validation=none: needs objective.keep=last"),
        (("data.augment=[cutmix]",), "a piece of another identity has no identity"),
        (("data.augment=[mixup]",), "a blend of two identities has no identity"),
        (("model.backbone=resnet18_fc51",), "did you mean resnet18_fc512?"),
        (("objective.metric=val/loss",), "objective.metric=val/loss: not one of val/mAP"),
    ],
)
def test_what_does_not_go_together_is_refused(
    make_config: Make, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError) as error:
        make_config(*TINY_REID, *words)
    assert told in str(error.value)


def test_too_few_identities_for_a_batch_are_told(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="identities"):
        train(make_config(*TINY_REID, "data.batch_size=64"), tmp_path)


def test_one_vehicle_seen_by_two_cameras_each_is_enough_to_train(
    make_config: Make, shared_data: Path, tmp_path: Path
) -> None:
    words = [w for w in TINY_REID if w.split("=")[0] not in EMBEDDED]
    real = ("data=veri", f"data.root={shared_data / 'vehicle_reid_dev'}")
    train(make_config(*words, *real, "trainer.limit_train_batches=2", "test=true"), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert record.data["counts"]["test"] == 404
    # With one image per camera, every score would be 1 if a query could find itself.
    assert record.baselines["random"]["test/rank1"] < 0.2


EMBEDDED = {f"data.{k}" for k in ("train_identities", "test_identities", "cameras", "shots")}


def test_the_limit_is_of_a_metric_that_is_logged() -> None:
    (limit,) = ReidModule(num_classes=4, backbone="mobilenet_v3_small").report_notes().limits
    assert limit.metric == "train/positive_share" and limit.least == 0.5

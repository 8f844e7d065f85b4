"""The pipeline as a whole: real runs on tiny drawings and on the real beads."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.records.record import read_record
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.run import train
from tests.segmentation.conftest import TINY_BEADS

Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def done(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("done")
    words = ("trainer.max_epochs=3", "figures.images=2", "data.test_images=3")
    train(make_config(*TINY_BEADS, *words), directory)
    return directory


def test_the_test_split_is_judged_by_the_threshold_of_the_best_epoch(done: Path) -> None:
    record = read_record(done)
    assert record is not None
    assert record.status == "completed"
    assert record.test is not None
    best = record.best["val/threshold"]
    assert record.test["test/threshold"] == best
    state = read_checkpoint(done)["state_dict"]
    assert float(state["metrics.threshold"]) == best
    assert 0 < best < 1


def test_trivial_predictors_stand_beside_the_result_on_both_splits(done: Path) -> None:
    record = read_record(done)
    assert record is not None
    everything = record.baselines["all_foreground"]
    for split in ("val", "test"):
        share = everything[f"{split}/truth/foreground"]
        assert everything[f"{split}/jaccard"] == pytest.approx(share)
        assert everything[f"{split}/soft_jaccard"] == pytest.approx(share, abs=1e-3)
        assert record.baselines["all_background"][f"{split}/recall"] == 0
    assert set(record.baselines) == {"all_foreground", "all_background", "otsu", "perfect_mask"}


def test_the_figures_are_there(done: Path) -> None:
    names = {path.stem for path in (done / "figures").glob("*.png")}
    own = {"best", "worst", "precision_recall", "counts"}
    assert names == own | {f"test_{name}" for name in own} | {"curves"}


def test_weights_of_the_terms_move_but_reports_stay_comparable(
    make_config: Make, tmp_path: Path
) -> None:
    # With a rate that changes nothing, every epoch must report the same loss.
    still = (
        "optimizer.lr=1e-30",
        "optimizer.weight_decay=0",
        "scheduler=none",
        "trainer.max_epochs=3",
        "model.norm=group",
        "loss.schedule_epochs=2",
    )
    train(make_config(*TINY_BEADS, *still), tmp_path)
    losses = [row["train/loss"] for row in read_history(tmp_path)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_progressive_training_trains_at_the_size_of_the_epoch(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.module import SegmentationModule

    sizes: list[tuple[bool, int]] = []
    forward = SegmentationModule.forward

    def spy(self: SegmentationModule, images: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append((self.training, images.shape[-1]))
        return forward(self, images)

    monkeypatch.setattr(SegmentationModule, "forward", spy)
    words = ("data.image_size_schedule=[[1,32],[2,64]]", "data.image_size=64")
    train(make_config(*TINY_BEADS, *words, "trainer.max_epochs=2"), tmp_path)
    assert [size for training, size in sizes if training] == [32, 32, 64, 64]
    assert {size for training, size in sizes if not training} == {64}


def test_a_backbone_of_one_size_is_refused_before_the_first_epoch(
    make_config: Make, tmp_path: Path
) -> None:
    words = ("data.image_size_schedule=[[1,64],[2,96]]", "data.image_size=64")
    swin = ("model.architecture=smp_unet", "model.backbone=swin_tiny_patch4_window7_224")
    depth = ("model.depth=null", "trainer.max_epochs=2")
    with pytest.raises(UserError, match=r"built for data.image_size=64 and cannot take 96x96"):
        train(make_config(*TINY_BEADS, *words, *swin, *depth), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert (record.status, record.cost["epochs"]) == ("failed", 0)


def test_a_larger_size_starts_from_a_smaller_ones_weights(make_config: Make, done: Path) -> None:
    directory = done.parent / "larger"
    words = (f"init_from={done}", "data.image_size=64", "optimizer.lr=1e-30")
    train(make_config(*TINY_BEADS, *words, "optimizer.weight_decay=0"), directory)
    old, new = (read_checkpoint(path)["state_dict"] for path in (done, directory))
    weights = [key for key in old if key.startswith("network.") and key.endswith("weight")]
    assert all(old[key].equal(new[key]) for key in weights)


def test_the_record_says_how_far_the_network_sees(
    make_config: Make, done: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = read_record(done)
    assert record is not None
    assert record.cost["receptive_field"] == 44  # two levels down: 9, 20, 44 with the convolutions
    words = ("data.image_size=64", "+trainer.fast_dev_run=true")
    with caplog.at_level(logging.INFO):
        train(make_config(*TINY_BEADS, *words), tmp_path / "small")
        train(make_config(*TINY_BEADS, *words, "model.depth=4"), tmp_path / "large")
    assert "million parameters, receptive field 44 of 64 pixels: " in caplog.text
    assert "million parameters, receptive field the whole image: " in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        "loss.smooth=1e-6 loss.name=dice data.augment=[flip,{rotate:{degrees:180}}]",
        "trainer.accumulate_grad_batches=4",
        "trainer.accumulate_grad_batches=8",
        "trainer.gradient_clip_algorithm=tensor_norm",
        "trainer.precision=16-mixed",
        "model.architecture=nnunet data.image_size=64 model.depth=3 trainer.precision=bf16-mixed",
    ],
)
def test_published_settings_train(words: str, make_config: Make, tmp_path: Path) -> None:
    train(make_config(*TINY_BEADS, *words.split(), "test=false"), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert record.status == "completed"
    loss = record.last["train/loss"]
    assert loss is not None and math.isfinite(loss)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model.backbone=resnet18",), "model.backbone=resnet18: model.architecture=unet is built"),
        (("model.depth=9",), "model.depth=9: model.architecture=unet takes 2 to 6"),
        (("model.depth=6",), "data.image_size=32: model.depth=6 wants a multiple of 64"),
        (("model.dropout_type=depth",), "only resunet and attention_resunet have residual"),
        (("model.architecture=fpn", "model.depth=5", "model.width=6"), "wants a multiple of 4"),
        (
            ("model.architecture=nnunet", "model.depth=5"),
            "data.image_size=32: model.depth=5 wants a multiple of 32, 64 or more",
        ),
        (
            (
                "model.architecture=nnunet",
                "model.depth=null",
                "data.image_size=512",
                "data.image_size_schedule=[[1,128]]",
            ),
            "model.depth=7 wants multiples of 128, 256 or more",
        ),
        (
            ("data.image_size_schedule=[[2,32]]",),
            "data.image_size_schedule=[[2,32]]: must be null or pairs",
        ),
        (("data.image_size_schedule=[[1,32],[5,64]]",), "never reached with trainer.max_epochs=1"),
        (("evaluation.threshold=2",), "evaluation.threshold=2: must be auto or a number in (0, 1)"),
        (
            ("evaluation.objects=false", "objective.metric=val/object_f1"),
            "objective.metric=val/object_f1: not there with evaluation.objects=false",
        ),
        (("data=voc",), "this task reads only data=beads, image_mask"),
        (("loss.name=dise",), "did you mean dice?"),
    ],
)
def test_what_does_not_go_together_is_refused(
    make_config: Make, words: tuple[str, ...], told: str
) -> None:
    tiny = [w for w in TINY_BEADS if "data=voc" not in words or not w.startswith("data.")]
    with pytest.raises(UserError) as error:
        make_config(*tiny, *words, *(["data.root=."] if "data=voc" in words else []))
    assert told in str(error.value)


def test_tiles_of_real_images_train(make_config: Make, shared_data: Path, tmp_path: Path) -> None:
    words = [word for word in TINY_BEADS if "_images=" not in word and "beads=" not in word]
    real = ("data=image_mask", f"data.root={shared_data / 'beads'}", "data.tile_size=256")
    limits = ("trainer.limit_train_batches=2", "trainer.limit_val_batches=2", "test=false")
    train(make_config(*words, *real, *limits), tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    assert record.status == "completed"
    assert record.data["counts"] == {"train": 256, "val": 60, "test": 156}

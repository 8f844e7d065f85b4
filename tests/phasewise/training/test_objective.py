"""What a run is judged by must mean something on its validation data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from phasewise.errors import UserError
from phasewise.training.run import train
from tests.phasewise.training.directory import record_of
from tests.voc_folder import VocFolder

Make = Callable[..., DictConfig]

VOC = (
    *("data=voc", "data.image_size=32", "data.batch_size=2", "model.backbone=test_resnet"),
    *("trainer.max_epochs=1", "figures.images=0"),
)


@pytest.fixture
def voc(make_config: Make, tmp_path: Path) -> Callable[..., str]:
    """What is said of the folder ``data``, whose masks may be edited."""

    def refusal(*words: str) -> str:
        config = make_config(*VOC, f"data.root={tmp_path / 'data'}", *words)
        with pytest.raises(UserError) as error:
            train(config, tmp_path / "run")
        assert record_of(tmp_path / "run").status == "failed"
        return str(error.value)

    return refusal


def test_boxes_alone(voc: Callable[..., str], make_config: Make, tmp_path: Path) -> None:
    folder = VocFolder(tmp_path / "data")
    for split, count in (("train", 4), ("val", 2)):
        for name in (f"{split}-{i}" for i in range(count)):
            folder.mask(name).unlink()
    assert voc() == (
        "objective.metric=val/mIoU: means nothing on these data, for no validation image has a "
        "mask (model.segmentation_head=none leaves that head out); one of val/loss, val/mAP, "
        "val/mAP50 does"
    )
    words = ("model.segmentation_head=none", "objective.metric=val/mAP50")
    train(make_config(*VOC, f"data.root={folder.root}", *words), tmp_path / "boxes")
    assert record_of(tmp_path / "boxes").status == "completed"


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_a_class(voc: Callable[..., str], tmp_path: Path, value: int) -> None:
    folder = VocFolder(tmp_path / "data")
    for name in ("val-0", "val-1"):
        Image.fromarray(np.full((20, 40), value, np.uint8)).save(folder.mask(name))
    assert "no pixel of a validation mask is of a class" in voc()


def test_no_object(voc: Callable[..., str], tmp_path: Path) -> None:
    folder = VocFolder(tmp_path / "data")
    for name in ("val-0", "val-1"):
        folder.write_xml(name, "")
    text = voc("objective.metric=val/mAP")
    assert "no validation image has an object with a box" in text
    assert text.endswith("one of val/loss, val/mIoU, val/pixel_acc does")


def test_no_foreground(make_config: Make, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        values = np.full((16, 16), 255 if name == "a" else 0, np.uint8)
        values[8:] = 0
        Image.fromarray(values).save(tmp_path / "data" / "masks" / f"{name}.png")
        Image.fromarray(values).save(tmp_path / "data" / "images" / f"{name}.png")
    for split, text in (("train", "a\nb\n"), ("val", "c\nd\n")):
        (tmp_path / "data" / f"{split}.txt").write_text(text)
    words = ("task=segmentation", "data=image_mask", f"data.root={tmp_path / 'data'}")
    config = make_config(*words, "data.image_size=32", "model.width=4")
    with pytest.raises(UserError, match="no pixel of a validation mask is foreground") as error:
        train(config, tmp_path / "run")
    assert str(error.value).endswith("one of val/loss, val/count_error does")

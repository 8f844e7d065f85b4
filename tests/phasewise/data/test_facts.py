"""What records say of data, against the metrics of trivial predictors and the arrays themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from phasewise.data import facts
from phasewise.data.datamodule import StoreDataModule
from phasewise.records.record import load_record
from phasewise.training.build import build_data
from tests.conftest import TINY_RUNS

TinyRun = Callable[[str], Path]


@pytest.fixture
def read(make_config: Callable[..., DictConfig]) -> Callable[..., StoreDataModule]:
    def data(task: str, *words: str) -> StoreDataModule:
        config = OmegaConf.to_container(make_config(f"task={task}", *TINY_RUNS[task], *words))
        found = build_data(config)  # type: ignore[arg-type]
        assert isinstance(found, StoreDataModule)
        found.setup()
        return found

    return data


def of_run(tiny_run: TinyRun, task: str) -> tuple[dict[str, Any], Any]:
    record = load_record(tiny_run(task))
    return record.data, record


def test_a_record_says_what_the_data_are(tiny_run: TinyRun) -> None:
    data, _ = of_run(tiny_run, "multitask")
    assert (data["name"], data["what"]) == ("shapes", "embedded: drawn shapes")
    assert (data["image_size"], data["resize"]) == (32, "stretch")
    assert data["classes"] == ["background", "circle", "square", "triangle", "star", "ring"]
    assert data["split_rule"] == "drawn, each split on its own"
    assert data["facts"].keys() == {"train", "val", "test"}


def test_multitask_shares_are_those_that_the_majority_predictor_hits(tiny_run: TinyRun) -> None:
    data, record = of_run(tiny_run, "multitask")
    hit = record.baselines["majority"]["val/pixel_acc"]
    assert data["facts"]["val"]["pixel share"]["background"] == pytest.approx(hit)
    assert data["facts"]["val"]["foreground share"] == pytest.approx(1 - hit)


def test_multitask_objects_are_counted_in_the_arrays(read: Callable[..., StoreDataModule]) -> None:
    data = read("multitask")
    labels = data.splits.stores["train"]["labels"].numpy()
    found = data.facts("train")
    assert found["objects"] == (labels >= 1).sum() > 0
    assert found["objects per image"] == (labels >= 1).sum() / len(labels)
    stars = data.splits.class_names.index("star")
    assert found["objects of the class"]["star"] == (labels == stars).sum()  # type: ignore[index]


def test_segmentation_equals_the_metrics_of_the_truth(tiny_run: TinyRun) -> None:
    data, record = of_run(tiny_run, "segmentation")
    found = data["facts"]["val"]
    assert found["foreground share"] == pytest.approx(record.best["val/truth/foreground"])
    assert found["objects per image"] == pytest.approx(record.best["val/truth/objects"])
    assert found["objects"] > 0
    assert "objects" not in data["facts"]["train"]  # which does without them


def test_localization_measures_the_boxes(read: Callable[..., StoreDataModule]) -> None:
    data = read("localization")
    boxes = data.splits.stores["val"]["boxes"].numpy()[:, 0].astype(float)
    areas = np.array([(x2 - x1) * (y2 - y1) / 32**2 for x1, y1, x2, y2 in boxes])
    found = data.facts("val")
    assert found["foreground share (in the box)"] == pytest.approx(areas.mean())
    assert found["least share of an image in its box"] == pytest.approx(areas.min())
    touching = sum(min(b) < 1 or max(b) > 31 for b in boxes)
    assert found["boxes at the border of the image"] == touching


def test_reid_counts_identities_and_queries(read: Callable[..., StoreDataModule]) -> None:
    data = read("reid")
    # 6 identities of 2 cameras with 2 shots, 40 % of which validate; 3 test
    train = {"identities": 4, "cameras": 2, "images per identity": 4.0}
    assert data.facts("train") == train
    judged = {"identities": 3, "cameras": 2, "queries": 6, "gallery images": 12}
    assert data.facts("test") == judged
    assert data.classes() == []
    assert data.splits.rule.endswith(
        "40 % of the training identities validate, by hashed name, split_seed=0"
    )


def test_what_took_long_is_read_from_the_cache(
    read: Callable[..., StoreDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"data.cache_dir={tmp_path}"
    monkeypatch.setattr(facts, "SLOW", -1.0)
    data = read("multitask", words)
    first = facts.about(data)
    assert len([*(tmp_path / facts.FOLDER).iterdir()]) == 3
    monkeypatch.setattr(type(data), "facts", None)
    assert facts.about(read("multitask", words)) == first
    (tmp_path / facts.FOLDER / next((tmp_path / facts.FOLDER).iterdir()).name).write_text("no JSON")
    with pytest.raises(TypeError):
        facts.about(read("multitask", words))


@pytest.mark.parametrize(
    "words", ["data.draw_seed=1", "data.image_size=64", "data.train_images=12"]
)
def test_other_data_have_another_key(read: Callable[..., StoreDataModule], words: str) -> None:
    one, other = (facts._key(read("multitask", *more), "train") for more in ([], [words]))
    assert one != other


def test_undefined_numbers_are_left_out_of_records() -> None:
    found = facts._defined({"a": float("nan"), "b": {"c": float("inf"), "d": 0.5}})
    assert json.dumps(found) == '{"b": {"d": 0.5}}'

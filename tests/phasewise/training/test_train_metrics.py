"""``trainer.train_metrics``: metrics of training images, which leave the training as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from omegaconf import DictConfig

from phasewise.config.fingerprint import fingerprint, plain_config
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.inference.restore import restore
from phasewise.records.history import read_history
from phasewise.training.build import build_data
from phasewise.training.module import TaskModule
from phasewise.training.run import train
from phasewise.training.train_metrics import check_train_metrics
from reid.training_part import training_part
from tests.conftest import TINY_RUNS
from tests.phasewise.training.directory import timeless, weights

Make = Callable[..., DictConfig]
ON = "trainer.train_metrics=true"
MORE = {
    "multitask": "model.dropout_rate=0.3",
    "localization": "model.dropout_rate=0.3",
    "segmentation": "model.dropout_rate=0.3",
    "reid": "model.norm=batch",
}


def trained(make_config: Make, directory: Path, task: str, *words: str) -> DictConfig:
    cfg = make_config(
        f"task={task}", *TINY_RUNS[task], MORE[task], "trainer.max_epochs=2", "test=false", *words
    )
    train(cfg, directory)
    return cfg


def evaluated(directory: Path, cfg: DictConfig) -> dict[str, float]:
    """What the last weights score on the training images, by the steps of a validation."""
    module = restore(directory / "checkpoints" / "last.ckpt").module
    assert isinstance(module, TaskModule)
    data = build_data(plain_config(cfg))
    assert isinstance(data, StoreDataModule)
    data.setup()
    module.eval()
    count, wanted = len(data.splits.stores["train"]), len(data.splits.stores["val"])
    rows = sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})
    with torch.no_grad():
        for index in torch.tensor(rows).split(cfg.data.batch_size):
            batch = data.prepared("train", index, torch.device("cpu"))
            if "mask" in batch and cfg.task.name == "segmentation":
                batch["instances"] = torch.zeros_like(batch["mask"])  # training knows none
            module.evaluate(batch)
    return module.compute_metrics("train")


@pytest.mark.parametrize("task", ["multitask", "segmentation", "localization"])
def test_metrics_of_training_images_are_those_of_an_evaluation(
    make_config: Make, tmp_path: Path, task: str
) -> None:
    cfg = trained(make_config, tmp_path, task, ON)
    row, expected = read_history(tmp_path)[-1], evaluated(tmp_path, cfg)
    found = {name[6:] for name in row if name.startswith("train/") and name != "train/loss"}
    found = {name for name in found if not name.startswith("loss/")}
    names = {name.removeprefix("val/") for name in row if name.startswith("val/")}
    assert {name for name in found if "/" not in name} - names == set()
    assert len(found) >= 2
    for name in found:
        assert row[f"train/{name}"] == pytest.approx(expected[name], abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("task", list(TINY_RUNS))
def test_training_stays_bit_for_bit_what_it_was(
    make_config: Make, tmp_path: Path, task: str
) -> None:
    off = trained(make_config, tmp_path / "off", task)
    on = trained(make_config, tmp_path / "on", task, ON)
    assert fingerprint(on) == fingerprint(off)
    for row, before in zip(timeless(tmp_path / "on"), timeless(tmp_path / "off"), strict=True):
        assert {name: repr(row[name]) for name in before} == {k: repr(v) for k, v in before.items()}
        added = row.keys() - before.keys()
        assert added
        assert all(name.startswith("train/") for name in added)
    for name in ("best", "last"):
        mine, other = weights(tmp_path / "on", name), weights(tmp_path / "off", name)
        assert all(torch.equal(mine[key], other[key]) for key in other)


def test_retrieval_in_the_training_split(make_config: Make, tmp_path: Path) -> None:
    # Features that lie far enough apart for their ranks not to hang on the last digit.
    cfg = trained(make_config, tmp_path, "reid", ON, "model.norm=group", "data.image_size=64")
    module = restore(tmp_path / "checkpoints" / "last.ckpt").module.eval()
    data = build_data(plain_config(cfg))
    assert isinstance(data, StoreDataModule)
    data.setup()
    store, judged = data.splits.stores["train"], data.splits.stores["val"]["label"]
    part = training_part(store["label"], store["camera"], len({*judged.tolist()}))
    batch = data.prepared("train", part["row"], torch.device("cpu"))
    with torch.no_grad():
        features = module(batch["image"])["feature"]
    features = features / features.norm(dim=1, keepdim=True)
    found = []
    for q in part["is_query"].nonzero().flatten().tolist():
        gallery = (~part["is_query"]).nonzero().flatten()
        same = batch["label"][gallery] == batch["label"][q]
        kept = ~(same & (batch["camera"][gallery] == batch["camera"][q]))
        order = (features[gallery] @ features[q])[kept].argsort(descending=True, stable=True)
        hits = same[kept][order].double()
        ranks = torch.arange(1, len(hits) + 1)
        found.append(float((hits.cumsum(0) / ranks * hits).sum() / hits.sum()))
    row = read_history(tmp_path)[-1]
    assert row["train/mAP"] == pytest.approx(sum(found) / len(found), abs=1e-5)
    assert row["train/mAP"] != row["val/mAP"]


def test_queries_of_training_identities() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3])
    cameras = torch.tensor([0, 0, 1, 0, 1, 0, 1, 2, 2, 3])
    part = training_part(labels, cameras, 2)
    assert part["row"].tolist() == [0, 2, 7, 9, 0, 1, 2, 7, 8, 9]  # of identities 0 and 3
    assert part["is_query"].tolist() == [True] * 4 + [False] * 6
    alone = training_part(labels, None, 2)
    assert alone["row"].tolist() == [0, 7, 1, 2, 8, 9]
    assert alone["is_query"].tolist() == [True] * 2 + [False] * 4


def test_only_validated_epochs_have_them(make_config: Make, tmp_path: Path) -> None:
    trained(make_config, tmp_path, "localization", ON, "trainer.check_val_every_n_epoch=2")
    first, second = read_history(tmp_path)
    assert "train/IoU" not in first
    assert "train/IoU" in second


class Plain(L.LightningModule):
    """Somebody's own."""


def test_a_module_of_another_kind_is_refused(make_config: Make) -> None:
    config = {
        "task": {"module": {"_target_": f"{__name__}.Plain"}},
        "data": {"_target_": "multitask.data.ShapesData"},
    }
    with pytest.raises(UserError, match=r"train_metrics=true: task\.module\._target_=.*TaskModule"):
        check_train_metrics(config)

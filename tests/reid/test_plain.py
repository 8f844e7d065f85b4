"""The module and the data sets as any Lightning user has them: no config, no callback of ours."""

from __future__ import annotations

import doctest
import inspect
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import reid
import reid.metrics
from phasewise.config.defaults import composed
from phasewise.data.batch import Batch
from phasewise.errors import UserError
from phasewise.training.build import available_arguments, build_module
from reid import FolderData, ReidModule, ReidRetrieval, VehiclesData
from reid.data import ReidSettings
from reid.targets import sampled_rows

SIDE, CLASSES, IMAGES = 32, 4, 20
Row = dict[str, Any]


class Images(Dataset):
    """Identity ``row % 4`` in a colour of its own under much noise, by camera ``row // 4``; the
    first two images of each are queries."""

    def __init__(self, *without: str) -> None:
        draw = torch.Generator().manual_seed(0)
        colours = torch.rand(CLASSES, 3, 1, 1, generator=draw)
        self.rows: list[Row] = []
        for row in range(IMAGES):
            noise = torch.rand(3, SIDE, SIDE, generator=draw)
            image = (colours[row % CLASSES] + 9 * noise) / 10
            labels = {"id": row % CLASSES, "camera": row // CLASSES, "is_query": row < 8}
            self.rows.append({"image": image, **labels})
            for key in without:
                del self.rows[-1][key]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Row:
        return self.rows[row]


def loader(*without: str, size: int = 5, **settings: Any) -> DataLoader:
    return DataLoader(Images(*without), size, **settings)


def module(**settings: Any) -> ReidModule:
    torch.manual_seed(0)
    known = {"num_classes": CLASSES, "image_size": SIDE, "backbone": "test_resnet"}
    return ReidModule(**{**known, **settings})


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    known: dict[str, Any] = {"logger": False, "enable_progress_bar": False}
    known |= {"max_epochs": 2, "enable_checkpointing": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu", default_root_dir=folder, **{"log_every_n_steps": 1, **known, **settings}
    )


class Losses(L.Callback):
    """``train/loss`` of each epoch, as the module logged it."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.found += [float(v) for k, v in trainer.callback_metrics.items() if k == "train/loss"]


def batch(count: int = 4) -> dict[str, Any]:
    return next(iter(loader(size=count)))


def evaluated(one: ReidModule, *parts: dict[str, Any]) -> dict[str, float]:
    one.eval()
    for step, part in enumerate(parts):
        one.validation_step(part, step)
    return one.epoch_metrics("val")


def test_twenty_images_train_and_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    # as the issue has it: enough to construct it
    assert ReidModule(num_classes=CLASSES).hparams["backbone"] == "resnet18"
    one, losses = module(), Losses()
    run = trainer(tmp_path, callbacks=[losses])
    run.fit(one, loader(), loader())
    assert float(run.callback_metrics["train/loss"]) < losses.found[0]
    wanted = {f"val/{name}" for name in ("mAP", "mINP", "rank1", "rank5", "rank10")}
    assert wanted <= set(run.callback_metrics)
    assert 0 < float(run.callback_metrics["val/mAP"]) <= 1
    run.save_checkpoint(tmp_path / "x.ckpt")
    again = ReidModule.load_from_checkpoint(tmp_path / "x.ckpt").eval()
    one.eval()
    with torch.no_grad():
        features, same = (it.predict_step(batch())["feature"] for it in (one, again))
    torch.testing.assert_close(features, same, atol=1e-6, rtol=0)
    assert len(features.unique(dim=0)) == len(features)
    found: Any = run.predict(again, loader("id", "camera", "is_query"))
    assert [{k: v.shape for k, v in part.items()} for part in found] == 4 * [
        {"feature": (5, features.shape[1])}
    ]


def test_a_rate_that_waits_for_a_plateau_falls(tmp_path: Path) -> None:
    # rank-10 of 12 gallery images: found from the first epoch on, so that nothing improves
    one = module(scheduler={"name": "plateau", "patience": 0}, monitor="val/rank10")
    run = trainer(tmp_path)
    run.fit(one, loader(), loader("camera"))
    assert float(run.callback_metrics["val/rank10"]) == 1
    assert run.optimizers[0].param_groups[0]["lr"] < 1e-3


def test_our_data_under_a_plain_trainer(tmp_path: Path) -> None:
    data = VehiclesData(
        image_size=SIDE,
        batch_size=8,
        images_per_identity=2,
        train_identities=8,
        test_identities=3,
        cameras=3,
        cache_dir=str(tmp_path),
    )
    data.setup()
    assert data.describe()["cameras"] is True
    one = module(num_classes=len(data.splits.class_names))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(one, datamodule=data)
    assert math.isfinite(run.callback_metrics["val/mAP"])
    (tested,) = run.test(one, datamodule=data, verbose=False)
    assert math.isfinite(tested["test/mAP"])
    found: Any = run.predict(one, datamodule=data)
    assert sum(len(part["feature"]) for part in found) == len(data.splits.names["test"])


def test_metrics_of_a_users_batches_against_retrieval_of_all_at_once() -> None:
    one = module()
    everything = batch(IMAGES)
    for camera in (True, False):
        parts = list(loader(*([] if camera else ["camera"]), size=3))
        found = evaluated(one, *parts)
        metric = ReidRetrieval("cosine")
        cameras = everything["camera"] if camera else None
        with torch.no_grad():
            features = one.predict_step(everything)["feature"]
        metric.update(features, everything["id"], cameras, everything["is_query"])
        for name in ("mAP", "mINP", "rank1"):
            assert found[f"val/{name}"] == pytest.approx(float(metric.compute()[name]), abs=1e-6)


def test_cameras_are_used_where_they_are_known_and_wanted() -> None:
    """The only image of its identity is by the query's own camera."""
    pair = {"image": torch.rand(2, 3, SIDE, SIDE), "id": torch.tensor([5, 5])}
    pair |= {"is_query": torch.tensor([True, False])}
    seen = {**pair, "camera": torch.tensor([0, 0])}
    assert evaluated(module(), pair)["val/mAP"] == 1
    assert math.isnan(evaluated(module(), seen)["val/mAP"])
    assert evaluated(module(cameras=False), seen)["val/mAP"] == 1


def test_no_query_with_anything_to_find_is_told(tmp_path: Path) -> None:
    data = Images()
    for row in data.rows:
        row["is_query"] = False
    with pytest.warns(UserWarning, match="val: no query has an image of its id to find"):
        trainer(tmp_path).validate(module(), DataLoader(data, 5), verbose=False)


def test_images_that_a_distributed_sampler_repeats_count_once() -> None:
    """Three processes of seven images each, and there are twenty."""
    one, parts = module().eval(), []
    rows: list[int] = []
    for rank in range(3):
        sampler: DistributedSampler = DistributedSampler(Images(), 3, rank, shuffle=False)
        share = loader(size=4, sampler=sampler)
        known = sampled_rows(share)
        assert known is not None
        assert len(known) == 7
        rows += known
        one._sampled = known
        for step, part in enumerate(share):
            one.validation_step(part, step)
        parts.append(([*one.metric.features], [*one.metric.rows]))
        one.metric.reset()
    assert len(rows) == 21
    for features, labels in parts:  # as `ReidRetrieval` gathers them
        one.metric.features += features
        one.metric.rows += labels
    one.metric._update_count = 1
    found, alone = one.epoch_metrics("val"), evaluated(module(), *loader())
    twice = evaluated(module(), *loader(), {key: value[:1] for key, value in batch().items()})
    assert twice["val/mAP"] != pytest.approx(alone["val/mAP"], abs=1e-4)  # it matters
    assert found == pytest.approx(alone, abs=1e-6)
    assert sampled_rows(loader()) is None
    assert sampled_rows([]) is None


def without(key: str) -> dict[str, Any]:
    found = batch()
    del found[key]
    return found


LONG = torch.tensor([0, 1, 2, 3])

REFUSED_IN_TRAINING: list[tuple[Any, str]] = [
    (without("image"), "the batch has no 'image' .*; it has 'id', 'camera', 'is_query'"),
    (without("id"), "the batch has no 'id' .*integers from 0 to 3"),
    ({**batch(), "id": LONG[:3]}, r"batch\['id'\] has the shape \(3,\)"),
    ({**batch(), "id": LONG.float()}, r"batch\['id'\] is of torch.float32"),
    ({**batch(), "id": LONG > 1}, r"batch\['id'\] is of torch.bool"),
    ({**batch(), "id": LONG.tolist()}, r"batch\['id'\] is a list, not a tensor"),
    ({**batch(), "id": LONG + 1}, r"batch\['id'\] holds 4; wanted is .*from 0 to 3"),
    ({**batch(), "id": LONG - 1}, r"batch\['id'\] holds -1; wanted is .*from 0 to 3"),
    ((batch()["image"], LONG), "the batch is a tuple; it must be a dict with 'image'"),
]
REFUSED_IN_VALIDATION: list[tuple[Any, str]] = [
    (without("id"), "the batch has no 'id'"),
    (without("is_query"), r"the batch has no 'is_query' \(\(B,\), bool"),
    (
        {**batch(), "is_query": LONG},
        r"batch\['is_query'\] is of torch.int64; wanted is \(B,\), bool",
    ),
    ({**batch(), "is_query": LONG[:, None] > 1}, r"batch\['is_query'\] has the shape \(4, 1\)"),
    ({**batch(), "camera": LONG[:2]}, r"batch\['camera'\] has the shape \(2,\)"),
    ({**batch(), "camera": LONG / 2}, r"batch\['camera'\] is of torch.float32"),
    ({**batch(), "camera": LONG - 1}, r"batch\['camera'\] holds -1; .*where cameras are not known"),
]


def refusal(one: ReidModule, wrong: Any, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        (one.training_step if one.training else one.validation_step)(wrong, 0)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def made() -> ReidModule:
    return module()


@pytest.mark.parametrize(("wrong", "told"), REFUSED_IN_TRAINING)
def test_batches_refused_in_training(made: ReidModule, wrong: Any, told: str) -> None:
    refusal(made.train(), wrong, told)


@pytest.mark.parametrize(("wrong", "told"), REFUSED_IN_VALIDATION)
def test_batches_refused_in_validation(made: ReidModule, wrong: Any, told: str) -> None:
    refusal(made.eval(), wrong, told)


def test_what_training_needs_no_more_than(made: ReidModule) -> None:
    prepared = made.train().prepare({key: batch()[key] for key in ("image", "id")})
    assert isinstance(prepared, Batch)
    assert set(prepared) == {"image", "label"}
    bytes_: Tensor = (batch()["image"] * 255).round().byte()
    torch.testing.assert_close(
        made.prepare({"image": bytes_}, targets=False)["image"],
        made.prepare({"image": bytes_ / 255}, targets=False)["image"],
    )


def test_updates_with_and_without_cameras_do_not_go_together(made: ReidModule) -> None:
    with pytest.raises(ValueError, match="some updates had cameras, and some had not"):
        evaluated(made, batch(), without("camera"))
    made.metric.reset()


@pytest.mark.parametrize("setting", [{"neck": "bneck"}, {"pooling": "average"}])
def test_settings_that_do_not_exist_are_refused(setting: dict[str, Any]) -> None:
    ((key, value),) = setting.items()
    with pytest.raises(UserError, match=f"model.{key}={value}: not one of"):
        module(**setting)


def test_the_constructor_has_the_defaults_of_the_config() -> None:
    config, _ = composed(["task=reid"])
    parameters = inspect.signature(ReidModule).parameters
    info = {"class_names": ["1", "2"], "image_size": 96, "cameras": True}
    there = available_arguments(config, info)
    names = [*config["model"]]
    names += [f"{part}_{key}" for part in ("loss", "evaluation") for key in config[part]]
    assert set(names) <= set(parameters)
    assert {name: parameters[name].default for name in names} == {n: there[n] for n in names}
    for name in ("monitor", "mode", "cameras"):
        assert parameters[name].default == there[name]
    built = build_module(config, {**info, "cameras": False})
    assert isinstance(built, ReidModule)
    assert (built.hparams["num_classes"], built.cameras) == (2, False)


@pytest.mark.parametrize("refit", [False, True])
def test_data_have_the_defaults_of_the_config(refit: bool) -> None:
    config, _ = composed(["task=reid"])
    data, own = dict(config["data"], seed=0, refit=refit), VehiclesData(refit=refit)
    del data["_target_"]
    told = VehiclesData(**data)
    assert {**own.hparams, "augment": list(own.hparams["augment"])} == dict(told.hparams)
    assert data == {key: told.hparams[key] for key in data}
    assert own.all_identities is refit
    config, _ = composed(["task=reid", "data=folder", "data.root=."])
    folder = FolderData(root=".", cameras="auto").hparams
    for name in ("image_size", "batch_size", *ReidSettings.__annotations__):
        if name in config["data"] and name != "augment":
            assert folder[name] == config["data"][name], name


def test_names_are_there_without_an_import_of_torch() -> None:
    words = "import sys, reid, reid.schema; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=60)
    assert all(getattr(reid, name).__name__ == name for name in reid.__all__)
    with pytest.raises(ImportError):
        from reid import Nothing  # type: ignore[attr-defined]  # noqa: F401


def test_the_example_of_retrieval_is_true() -> None:
    done = doctest.testmod(reid.metrics)
    assert done.attempted >= 4
    assert done.failed == 0

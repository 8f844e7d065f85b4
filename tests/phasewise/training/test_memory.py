"""``trainer.auto_accumulate``: a run for whose batches there is no memory takes smaller ones."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from localization.module import LocalizationModule
from phasewise.config.fingerprint import fingerprint
from phasewise.errors import OutOfMemoryError, UserError
from phasewise.records.history import read_history
from phasewise.training.module import TaskModule
from phasewise.training.run import train
from reid.module import ReidModule
from tests.localization.conftest import TINY_ANIMALS
from tests.phasewise.training.directory import assert_same_run, record_of, weights
from tests.reid.conftest import TINY_REID

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]
AUTO = "trainer.auto_accumulate=true"
# Losses that are means over images, and nothing that depends on the rest of a batch: parts of a
# batch then add up to the gradient of the whole.
MEANS = ("model.norm=group", "model.dropout_rate=0.0", "data.train_images=20", "data.batch_size=8")


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY_ANIMALS, *MEANS, *words)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[weakref.ref]]:
    """Memory for so many images at once, in training and from an epoch (counted from 1) on."""

    def limit(kind: type[TaskModule], most: int, epoch: int = 0) -> list[weakref.ref]:
        modules: list[weakref.ref] = []
        original = kind.forward

        def forward(self: TaskModule, images: Tensor) -> dict[str, Tensor]:
            if not modules or modules[-1]() is not self:
                assert [it() for it in modules if it() is not None] == []  # given back
                modules.append(weakref.ref(self))
            if len(images) > most and self.current_epoch + 1 >= epoch:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return original(self, images)

        monkeypatch.setattr(kind, "forward", forward)
        return modules

    return limit


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The rows of each batch of each attempt that got as far as its first step."""
    attempts: list[list[list[int]]] = []

    def start(self: TaskModule) -> None:
        attempts.append([])

    def step(self: TaskModule, batch: dict[str, Tensor], batch_idx: int) -> None:
        attempts[-1].append(sorted(batch["index"].tolist()))

    monkeypatch.setattr(LocalizationModule, "on_fit_start", start)
    monkeypatch.setattr(LocalizationModule, "on_train_batch_start", step)
    return attempts


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 4),
        (("trainer.accumulate_grad_batches=2",), 2),
        (("trainer.limit_train_batches=1", "trainer.limit_val_batches=1"), 2),
        (("trainer.limit_train_batches=0.5", "trainer.limit_val_batches=0.5"), 2),
        (("+trainer.limit_test_batches=1", "data.test_images=12", "test=true"), 4),
        (("data.train_images=6",), 2),
    ],
)
def test_the_steps_are_those_of_whole_batches(
    config: Make,
    tmp_path: Path,
    memory: Callable[..., list[weakref.ref]],
    steps: list[list[list[int]]],
    caplog: pytest.LogCaptureFixture,
    words: list[str],
    count: int,
) -> None:
    given = ("trainer.max_epochs=2", "data.val_images=12", "optimizer=sgd", "optimizer.lr=0.05")
    cfg = config(*given, *words)
    train(cfg, tmp_path / "whole")
    modules = memory(LocalizationModule, 3)
    with caplog.at_level(logging.WARNING):
        train(config(*given, *words, AUTO), tmp_path / "parts")
    assert len(modules) == 3  # batches of 8, 4 and 2
    assert caplog.text.count("out of memory: this run begins anew with data.batch_size=") == 2
    accumulated = cfg.trainer.accumulate_grad_batches
    lowered = {"batch_size": 2, "accumulate_grad_batches": 4 * accumulated}
    whole, parts = record_of(tmp_path / "whole"), record_of(tmp_path / "parts")
    assert whole.fingerprint == parts.fingerprint
    assert lowered.items() <= parts.cost.items()
    assert not lowered.keys() & whole.cost.keys()

    each = len(steps[-1]) // len(steps[0])
    dealt = [steps[-1][i : i + each] for i in range(0, len(steps[-1]), each)]
    assert [sorted(chain(*parts)) for parts in dealt] == steps[0]
    found, wanted = (read_history(tmp_path / name) for name in ("parts", "whole"))
    assert [row["step"] for row in found] == [row["step"] for row in wanted] == [count / 2, count]
    assert [row["lr"] for row in found] == [row["lr"] for row in wanted]
    for key in ("train/loss", "val/loss", "val/IoU"):
        assert [row[key] for row in found] == pytest.approx([row[key] for row in wanted], rel=1e-4)
    if whole.test is not None:
        assert parts.test == pytest.approx(whole.test, rel=1e-4)
    mine, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    for key, value in theirs.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-6)


def test_nothing_is_left_of_the_attempt_that_failed(
    config: Make, tmp_path: Path, memory: Callable[..., list[weakref.ref]]
) -> None:
    memory(LocalizationModule, 4)
    train(config("trainer.max_epochs=3", AUTO), tmp_path / "at_once")
    memory(LocalizationModule, 4, epoch=2)
    train(config("trainer.max_epochs=3", AUTO), tmp_path / "later")
    assert record_of(tmp_path / "later").cost["batch_size"] == 4
    assert_same_run(tmp_path / "at_once", tmp_path / "later")
    events = [len(list((tmp_path / it).glob("events.*"))) for it in ("at_once", "later")]
    assert events[0] == events[1]


@pytest.mark.parametrize("auto", ["true", "false"])
def test_a_run_that_is_taken_up_again_keeps_its_batches(
    config: Make,
    tmp_path: Path,
    memory: Callable[..., list[weakref.ref]],
    monkeypatch: pytest.MonkeyPatch,
    auto: str,
) -> None:
    words = ("trainer.max_epochs=3", "data.augment=[flip,scale]")
    with monkeypatch.context() as limited:
        memory(LocalizationModule, 4)
        train(config(*words, AUTO), tmp_path / "whole")
        limited.setattr(LocalizationModule, "on_validation_epoch_end", _stop_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(config(*words, AUTO), tmp_path / "parts")
    assert record_of(tmp_path / "parts").cost["batch_size"] == 4
    train(config(*words, f"trainer.auto_accumulate={auto}"), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert record_of(tmp_path / "parts").cost["accumulate_grad_batches"] == 2


def _stop_in_second_epoch(self: TaskModule) -> None:
    if self.current_epoch == 1:
        raise KeyboardInterrupt
    TaskModule.on_validation_epoch_end(self)


def test_a_run_that_is_killed_knows_its_batches(
    config: Make,
    tmp_path: Path,
    memory: Callable[..., list[weakref.ref]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory(LocalizationModule, 4)
    seen: list[Any] = []

    def look(self: TaskModule) -> None:
        record = record_of(tmp_path)
        seen.append((record.status, record.cost.get("batch_size")))

    monkeypatch.setattr(LocalizationModule, "on_fit_end", look)
    train(config(AUTO), tmp_path)
    assert seen == [("running", 4)]


@pytest.mark.parametrize(
    ("kind", "tiny", "least"),
    [(LocalizationModule, (*TINY_ANIMALS, "data.batch_size=12"), 3), (ReidModule, TINY_REID, 4)],
)
def test_where_no_batch_fits_that_is_told(
    make_config: Make,
    tmp_path: Path,
    memory: Callable[..., list[weakref.ref]],
    kind: type[TaskModule],
    tiny: tuple[str, ...],
    least: int,
) -> None:
    """12 images: 6, 3. Two identities of two images each: 4 of 8."""
    memory(kind, 0)
    told = rf"Tried to allocate 9 GiB\n.*\nno batch is halved further than data.batch_size={least}$"
    with pytest.raises(OutOfMemoryError, match=told):
        train(make_config(*tiny, AUTO), tmp_path)
    record = record_of(tmp_path)
    assert (record.status, record.cost["batch_size"]) == ("out_of_memory", least)


def test_a_run_that_is_tried_again_begins_with_its_own_batches(
    config: Make,
    tmp_path: Path,
    memory: Callable[..., list[weakref.ref]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context():
        memory(LocalizationModule, 0)
        with pytest.raises(OutOfMemoryError):
            train(config(AUTO), tmp_path)
    monkeypatch.undo()  # more memory now
    train(config(AUTO), tmp_path)
    assert "batch_size" not in record_of(tmp_path).cost


def test_it_is_no_part_of_the_fingerprint_and_for_one_device(config: Make) -> None:
    assert fingerprint(config(AUTO)) == fingerprint(config())
    with pytest.raises(UserError, match=r"auto_accumulate=true: works on one device only"):
        config(AUTO, "trainer.devices=2")

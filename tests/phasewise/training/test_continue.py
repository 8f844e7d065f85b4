"""A training that was stopped, killed or damaged is taken up again."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

import phasewise.training.logs
import phasewise.training.run
from multitask.module import MultitaskModule
from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.storage import storage_error
from phasewise.study.overrides import merge
from phasewise.training.run import train
from tests.conftest import ROOT, TINY
from tests.phasewise.training.directory import assert_same_run, record_of, weights

Make = Callable[..., DictConfig]
pytestmark = pytest.mark.usefixtures("interrupts")


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[DictConfig, Path], None]:
    """Train with an interruption within the second epoch and one within the fourth."""
    original = MultitaskModule.training_step

    def run(cfg: DictConfig, directory: Path) -> None:
        for epoch in (1, 3):

            def step(self: Any, batch: Any, batch_idx: int, epoch: int = epoch) -> Tensor:
                if (self.current_epoch, batch_idx) == (epoch, 1):
                    raise KeyboardInterrupt
                return original(self, batch, batch_idx)

            monkeypatch.setattr(MultitaskModule, "training_step", step)
            with pytest.raises(KeyboardInterrupt):
                train(cfg, directory)
            record = record_of(directory)
            assert (record.status, record.error) == ("interrupted", "stopped from outside")
            assert record.cost["epochs"] == epoch
            assert not record.is_final
        monkeypatch.setattr(MultitaskModule, "training_step", original)
        train(cfg, directory)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("data.augment=[flip,scale]", "model.dropout_rate=0.3"),
        ("loss.balance=dwa", "trainer.accumulate_grad_batches=2"),
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    config: Make,
    tmp_path: Path,
    in_parts: Callable[[DictConfig, Path], None],
    words: list[str],
) -> None:
    cfg = config("trainer.max_epochs=4", *words)
    train(cfg, tmp_path / "whole")
    in_parts(cfg, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_each_epoch_without_progress_lowers_the_rate_once_whatever_comes_between(
    config: Make,
    tmp_path: Path,
    scripted: Callable[..., None],
    in_parts: Callable[[DictConfig, Path], None],
) -> None:
    scripted(0.5, 0.4, 0.3, 0.6)
    words = ("scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01")
    cfg = config("trainer.max_epochs=4", *words)
    train(cfg, tmp_path / "whole")
    rates = [row["lr"] for row in read_history(tmp_path / "whole")]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])
    in_parts(cfg, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_a_run_killed_by_the_system_ends_as_if_it_had_not_been(
    config: Make, tmp_path: Path, cache: Path
) -> None:
    words = ["trainer.max_epochs=5", "data.train_images=24", "data.augment=[flip,erase]"]
    cfg = config(*words)
    command = [sys.executable, "train.py", *merge(TINY, words), f"data.cache_dir={cache}"]
    command += [f"hydra.run.dir={tmp_path / 'killed'}"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | threads, stdout=subprocess.DEVNULL
    )
    try:
        train(cfg, tmp_path / "whole")
        deadline = time.monotonic() + 60
        last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
        while not last.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    killed = record_of(tmp_path / "killed")
    assert killed.status == "running"
    assert 1 <= len(read_history(tmp_path / "killed")) < 5
    train(cfg, tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("words", [(), ("early_stopping.patience=1",)])
def test_a_run_that_died_after_its_last_epoch_trains_no_further_one(
    config: Make,
    tmp_path: Path,
    scripted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    scripted(0.4, 0.3, 0.5)
    cfg = config(f"trainer.max_epochs={3 if words else 2}", *words)
    with monkeypatch.context() as patch:
        patch.setattr(phasewise.training.run.Session, "_draw", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(cfg, tmp_path)
    before = weights(tmp_path)
    train(cfg, tmp_path)
    record = record_of(tmp_path)
    assert (record.status, record.cost["epochs"]) == ("completed", 2)
    assert record.test is not None
    after = weights(tmp_path)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.fixture(scope="module")
def whole(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs, to compare with."""
    folder = tmp_path_factory.mktemp("whole")
    train(make_config(*TINY, "trainer.max_epochs=3"), folder)
    return folder


@pytest.fixture(scope="module")
def paused(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after its second epoch, to be copied."""
    folder = tmp_path_factory.mktemp("paused")
    train(make_config(*TINY, "trainer.max_epochs=3", "trainer.pause_after=2"), folder)
    return folder


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("checkpoints/last.ckpt", halve, "last.ckpt cannot be read"),
        ("checkpoints/last.ckpt", lambda path: path.write_bytes(b""), "last.ckpt cannot be read"),
        ("checkpoints/best.ckpt", halve, "best.ckpt cannot be read"),
        ("checkpoints/best.ckpt", Path.unlink, "best.ckpt cannot be read (there is no such file)"),
        ("metrics.csv", drop_row, "metrics.csv has 1 whole rows of 2 epochs that are done"),
        ("metrics.csv", Path.unlink, "metrics.csv has 0 whole rows of 2 epochs that are done"),
    ],
)
def test_a_run_whose_files_are_damaged_begins_anew_and_says_so(
    config: Make,
    whole: Path,
    paused: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    shutil.copytree(paused, tmp_path / "run")
    damage(tmp_path / "run" / name)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train(config("trainer.max_epochs=3"), tmp_path / "run")
    (line,) = [it.getMessage() for it in caplog.records if "begins anew" in it.getMessage()]
    assert str(tmp_path / "run" / name.split(maxsplit=1)[0]) in line
    assert told in line
    assert "\n" not in line
    assert "continuing after" not in caplog.text
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_failed_run_with_a_damaged_checkpoint_is_repaired(
    config: Make,
    whole: Path,
    tmp_path: Path,
    broken: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = config("trainer.max_epochs=3")
    broken(2, RuntimeError("stop"))
    with pytest.raises(RuntimeError, match="stop"):
        train(cfg, tmp_path / "run", trial=True)
    assert record_of(tmp_path / "run").status == "failed"
    halve(tmp_path / "run" / "checkpoints" / "last.ckpt")
    monkeypatch.undo()
    train(cfg, tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


def test_a_checkpoint_that_a_failing_disk_does_not_give_is_no_damaged_one(
    config: Make, paused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paused, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before, opened = last.read_bytes(), Path.open

    def fail(self: Path, *args: Any, **settings: Any) -> Any:
        if self == last:
            raise OSError(5, "Input/output error", str(self))
        return opened(self, *args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="Input/output error") as caught:
            train(config("trainer.max_epochs=3"), tmp_path)
    assert storage_error(caught.value) is not None
    assert last.read_bytes() == before
    assert record_of(tmp_path).status == "paused"


@pytest.mark.slow
def test_best_weights_of_another_epoch_are_none(
    config: Make, tmp_path: Path, scripted: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    scripted(0.4, 0.3, 0.2)
    train(config("trainer.max_epochs=3", "trainer.pause_after=2"), tmp_path)
    folder = tmp_path / "checkpoints"
    shutil.copy(folder / "last.ckpt", folder / "best.ckpt")
    train(config("trainer.max_epochs=3"), tmp_path)
    assert "best.ckpt is of epoch 2, and epoch 1 was the best; this run begins anew" in caplog.text
    assert record_of(tmp_path).objective["epoch"] == 1


def test_best_weights_that_go_while_it_trains_are_not_replaced_by_the_last(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = phasewise.training.run.Session._restore_best

    def lose(self: Any) -> None:
        (tmp_path / "checkpoints" / "best.ckpt").unlink()
        restore(self)

    monkeypatch.setattr(phasewise.training.run.Session, "_restore_best", lose)
    with pytest.raises(UserError, match=r"best\.ckpt cannot be read \(there is no such file\)"):
        train(config(), tmp_path)
    assert record_of(tmp_path).test is None

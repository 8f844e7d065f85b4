"""Runs whose disk is full or fails: interrupted, and the same command ends as if it had not been.

A limit on the size of files (``ulimit -f``) is a full disk that any process can have: best.ckpt
fits, last.ckpt does not.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import phasewise.training.trainer
from phasewise.errors import StorageError
from phasewise.records.record import RunRecord
from phasewise.training.isolated import run_isolated
from phasewise.training.run import train
from phasewise.training.session import Session
from tests.phasewise.training.directory import assert_same_run, record_of

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]
LIMIT = 20 * 10**6


@contextmanager
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def left(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "checkpoints"))


@pytest.mark.parametrize("device", ["cpu", "meta"])  # of others it is written beside the training
def test_a_run_is_interrupted_and_goes_on(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    train(config("trainer.max_epochs=2"), tmp_path / "whole")
    run = tmp_path / "run"
    train(config("trainer.max_epochs=2", "trainer.pause_after=1"), run)
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(phasewise.training.trainer, "find_device", lambda _: torch.device(device))
        with small_files(), pytest.raises(StorageError) as caught:
            train(config("trainer.max_epochs=2"), run)
    told = str(caught.value).splitlines()
    assert told[0].startswith(f"{last}: File too large (31.")
    assert told[1] == "when that is mended, the same command continues"
    record = record_of(run)
    assert (record.status, record.error) == ("interrupted", str(caught.value))
    assert last.read_bytes() == before
    assert [name for name in left(run) if name[-1].isdigit()] == []
    train(config("trainer.max_epochs=2"), run)
    assert left(run) == ["best.ckpt", "last.ckpt"]
    assert_same_run(tmp_path / "whole", run)


def test_a_worker_says_so_to_its_sweep(config: Make, tmp_path: Path) -> None:
    cfg = config("trainer.accelerator=cpu")
    with small_files(), pytest.raises(StorageError, match=r"last\.ckpt: File too large"):
        run_isolated(cfg, tmp_path, [])
    assert record_of(tmp_path).status == "interrupted"


def test_a_worker_that_cannot_write_its_record_says_so_too(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phasewise.training.isolated._work", lambda *_: os.EX_IOERR)
    RunRecord.start(
        tmp_path, task="t", fingerprint="f", overrides=[], seed=0, metric="val/mIoU", mode="max"
    ).finish("interrupted", error="stopped from outside")
    monkeypatch.setattr("phasewise.training.isolated.previous_run", lambda *_: record_of(tmp_path))
    with pytest.raises(StorageError, match="a disk that this trial writes to is full or fails"):
        run_isolated(config(), tmp_path, [])
    assert record_of(tmp_path).error == "stopped from outside"


def test_where_the_record_cannot_be_written_it_stays_and_is_enough(
    config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[..., None],
) -> None:
    cfg = config("trainer.max_epochs=2")
    train(cfg, tmp_path / "whole")
    with monkeypatch.context() as patch:
        broken(2, OSError(errno.EIO, "Input/output error", "somewhere"))
        finish = Session._finish

        def full(*args: object, **settings: object) -> None:
            patch.setattr(os, "fsync", no_room)
            finish(*args, **settings)  # type: ignore[arg-type]

        def no_room(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(Session, "_finish", full)
        with pytest.raises(StorageError, match=r"^somewhere: Input/output error"):
            train(cfg, tmp_path / "run")
    monkeypatch.undo()
    assert record_of(tmp_path / "run").status == "running"
    train(cfg, tmp_path / "run")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.fixture
def has_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Free megabytes on all disks."""
    usage = namedtuple("usage", "total used free")

    @contextmanager
    def limit(free: int) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free * 10**6))
            yield

    return limit


def test_room_for_the_checkpoints_is_looked_for_before_training(
    config: Make, tmp_path: Path, has_only: Callable[[int], AbstractContextManager[None]]
) -> None:
    with has_only(60), pytest.raises(StorageError) as caught:
        train(config(), tmp_path)
    needed = 10.4 + 2 * 31.1  # last.ckpt is written beside the one before
    told = str(caught.value).splitlines()[0]
    assert told.startswith("checkpoints of a network of 10.4 MB: ")
    assert float(told.split(": ")[1].split()[0]) == pytest.approx(needed, abs=0.5)
    assert told.endswith(f"60.0 MB are free in {tmp_path}")
    assert record_of(tmp_path).status == "interrupted"
    assert not (tmp_path / "checkpoints").exists()
    with has_only(75):
        train(config("trainer.pause_after=1", "trainer.max_epochs=2"), tmp_path)
    with has_only(55):  # what is there is replaced
        train(config("trainer.max_epochs=2"), tmp_path)
    assert record_of(tmp_path).status == "completed"


def test_on_a_full_disk_no_run_begins(
    config: Make, tmp_path: Path, has_only: Callable[[int], AbstractContextManager[None]]
) -> None:
    with has_only(49), pytest.raises(StorageError, match=r"logs and records .* 49\.0 MB are free"):
        train(config(), tmp_path, trial=True)
    assert os.listdir(tmp_path) == [".lock"]


def test_an_image_size_whose_cache_does_not_fit_is_told_before_it_is_made(
    config: Make, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(StorageError) as caught:
        train(config("data.image_size=320000", f"data.cache_dir={cache}"), tmp_path / "run")
    first, second = str(caught.value).splitlines()
    assert first.startswith("decoding train images into data.cache_dir: ")
    assert first.endswith(f" are free in {cache}")
    assert second.startswith("a smaller data.image_size takes less space, data.cache_dir=DIR ")
    assert list(cache.iterdir()) == []
    record = record_of(tmp_path / "run")
    assert (record.status, record.error) == ("interrupted", str(caught.value))

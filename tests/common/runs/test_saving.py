"""Checkpoints that are written beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig

import common.runs.trainer
from common.runs.callbacks import BackgroundSaving
from common.runs.run import train
from tests.common.runs.directory import record_of
from tests.conftest import TINY

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, *words)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    device: str, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of other devices it is written beside the training, which has to hear of it all the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io._atomic_save", full)
    monkeypatch.setattr(common.runs.trainer, "find_device", lambda _: torch.device(device))
    with pytest.raises(OSError, match="No space left"):
        train(config(), tmp_path)  # of one epoch: nothing but the end is left to tell
    assert record_of(tmp_path).status == "failed"
    assert "No space left on device" in str(record_of(tmp_path).error)


def test_one_checkpoint_is_written_at_a_time_and_as_it_was_when_asked_for(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            began.set()
            assert go_on.wait(30)
            super().save_checkpoint(checkpoint, path)

    saving = BackgroundSaving(Slow())
    content = {"weight": torch.zeros(3)}
    saving.save_checkpoint(content, tmp_path / "a")
    assert began.wait(30)
    content["weight"] += 1  # as the next step does
    second = threading.Thread(target=saving.save_checkpoint, args=(content, tmp_path / "b"))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    second.join()
    saving.teardown()
    values = [torch.load(tmp_path / name)["weight"].tolist() for name in "ab"]
    assert values == [[0, 0, 0], [1, 1, 1]]

"""Checkpoints are whole whenever a process dies, and written beside the training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig

import phasewise.training.saving
from phasewise.training.callbacks import BackgroundSaving
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.run import train
from phasewise.training.saving import prepare_resume
from tests.phasewise.training.directory import assert_same_run, record_of, train_elsewhere

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]
KILLED = """
import os, signal
fsync, seen = os.fsync, []

def kill(descriptor):
    fsync(descriptor)
    seen.extend(["x"] * (".last.ckpt." in os.readlink(f"/proc/self/fd/{descriptor}")))
    if len(seen) == 2:
        os.truncate(descriptor, 1000)
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = kill
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_a_kill_within_the_writing_leaves_the_checkpoint_before(
    config: Make, tmp_path: Path
) -> None:
    cfg = config("trainer.max_epochs=3")
    train(cfg, tmp_path / "whole")
    other = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path  # another file system
    with TemporaryDirectory(dir=other) as temporary:
        process = train_elsewhere(cfg, tmp_path / "run", KILLED, TMPDIR=temporary)
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert os.listdir(temporary) == []
    folder = tmp_path / "run" / "checkpoints"
    assert read_checkpoint(folder / "last.ckpt")["epoch"] == 0
    assert read_checkpoint(folder / "best.ckpt")["epoch"] in (0, 1)
    (draft,) = folder.glob(".last.ckpt.[0-9]*")
    assert draft.stat().st_size == 1000
    train(cfg, tmp_path / "run")
    assert sorted(os.listdir(folder)) == ["best.ckpt", "last.ckpt"]
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_best_weights_before_are_kept_until_the_last_ones_know_of_the_new(
    config: Make, tmp_path: Path, scripted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run whose epochs do not repeat to the last bit might end without its best."""
    scripted(0.4, 0.5, 0.3)
    cfg = config("trainer.max_epochs=3")
    write = phasewise.training.saving.write_whole

    def stop(path: Path, content: memoryview) -> None:
        if path.name == "last.ckpt" and (tmp_path / "checkpoints" / "last.ckpt").exists():
            raise RuntimeError("stop")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(phasewise.training.saving, "write_whole", stop)
        with pytest.raises(RuntimeError, match="stop"):
            train(cfg, tmp_path)
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert read_checkpoint(best)["epoch"] == 1
    assert prepare_resume(tmp_path, cfg.objective) == 1
    assert read_checkpoint(best)["epoch"] == 0
    scripted(0.4, 0.2, 0.3)  # the second epoch is worse than it was
    train(cfg, tmp_path)
    assert record_of(tmp_path).objective["epoch"] == 1
    assert read_checkpoint(best)["epoch"] == 0


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


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("best", ["best.ckpt"]), ("all", ["best.ckpt", "last.ckpt"])],
)
def test_a_trial_that_has_completed_needs_no_last_checkpoint(
    config: Make, tmp_path: Path, policy: str, expected: list[str]
) -> None:
    cfg = config("trainer.max_epochs=2")
    cfg.study.checkpoints = policy  # as its study launches it
    train(cfg, tmp_path / "trial", trial=True)
    assert sorted(os.listdir(tmp_path / "trial" / "checkpoints")) == expected
    paused = config("trainer.max_epochs=2", "trainer.pause_after=1")
    paused.study.checkpoints = policy
    train(paused, tmp_path / "paused", trial=True)
    assert sorted(os.listdir(tmp_path / "paused" / "checkpoints")) == ["best.ckpt", "last.ckpt"]

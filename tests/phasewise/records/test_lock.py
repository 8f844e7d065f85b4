"""One process at a time in a run directory."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import DictConfig

import phasewise.training.run
from phasewise.config.fingerprint import fingerprint
from phasewise.errors import RunFailedError, UserError
from phasewise.records.lock import locked, wait_until_free
from phasewise.records.record import RunRecord
from phasewise.study.overrides import merge
from phasewise.training.run import train
from tests.conftest import ROOT, TINY
from tests.phasewise.training.directory import record_of

Make = Callable[..., DictConfig]

HOLD = """
import sys
from phasewise.records.lock import locked
with locked(sys.argv[1], wait=False):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the directory until it gets a line, or dies."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_single_run_is_refused_where_another_process_trains(
    make_config: Make, tmp_path: Path
) -> None:
    with held(tmp_path / "run"), pytest.raises(UserError, match="another process trains here"):
        train(make_config(*TINY), tmp_path / "run")
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_trial_waits_and_sees_what_came_of_the_other(
    make_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: str,
) -> None:
    monkeypatch.setattr(phasewise.training.run, "Session", None)  # nothing is trained here
    cfg = make_config(*TINY)
    with held(tmp_path) as other, caplog.at_level(logging.INFO):

        def end() -> None:
            while "waiting for another process" not in caplog.text:
                time.sleep(0.01)
            record = RunRecord.start(
                tmp_path,
                task="multitask",
                fingerprint=fingerprint(cfg),
                overrides=[],
                seed=0,
                metric="val/mIoU",
                mode="max",
            )
            cost = {"epochs": 1, "seconds": 1.0}
            record.finish(status, error="it broke", value=0.25, epoch=1, cost=cost)  # type: ignore[arg-type]
            let_go(other)

        thread = threading.Thread(target=end)
        thread.start()
        try:
            if status == "completed":
                assert train(cfg, tmp_path, trial=True) == 0.25
            else:
                with pytest.raises(RunFailedError, match="it broke"):
                    train(cfg, tmp_path, trial=True)
        finally:
            thread.join()
    assert caplog.text.count("waiting for another process") == 1


@pytest.mark.slow
def test_a_real_run_holds_its_directory_and_a_killed_one_holds_nothing(
    make_config: Make, tmp_path: Path, cache: Path
) -> None:
    words = ["trainer.max_epochs=40"]
    command = [sys.executable, "train.py", *merge(TINY, words), f"data.cache_dir={cache}"]
    command += [f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(UserError, match="another process trains here"):
            train(make_config(*TINY, *words), tmp_path)
    finally:
        process.kill()
        process.wait()
    with locked(tmp_path, wait=False) as waited:
        assert not waited
    assert record_of(tmp_path).status == "running"


def test_to_wait_for_a_directory_that_nobody_holds_takes_no_time(tmp_path: Path) -> None:
    wait_until_free(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with locked(tmp_path, wait=False):
        pass
    wait_until_free(tmp_path)
    with held(tmp_path) as other:
        waiting = threading.Thread(target=wait_until_free, args=(tmp_path,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        let_go(other)
        waiting.join(10)
        assert not waiting.is_alive()


@pytest.mark.skipif(os.name != "posix", reason="other rules")
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = r"file/run/.lock cannot be written: .*\nhydra.run.dir=DIR"
    with pytest.raises(UserError, match=told), locked(tmp_path / "file" / "run", wait=False):
        pass

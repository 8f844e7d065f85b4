"""A trial in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from phasewise.errors import RunFailedError, UserError
from phasewise.records.history import read_history
from phasewise.training import isolated
from phasewise.training.isolated import JOB, run_isolated
from phasewise.training.run import train
from tests.conftest import ROOT, TINY
from tests.phasewise.training.directory import assert_same_run, record_of

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, "trainer.accelerator=cpu", *words)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The workers."""
    found: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **settings: object) -> subprocess.Popen[bytes]:
        process = popen(command, **settings)  # type: ignore[call-overload]
        if "phasewise.training.worker" in command:
            found.append(process)
        return process

    popen = subprocess.Popen
    monkeypatch.setattr(isolated.subprocess, "Popen", start)
    return found


def wait_for(path: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.01)


def test_it_is_the_run_of_this_process(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    cfg = config("trainer.max_epochs=2", "optimizer.lr=1e-5", "model.dropout_rate=0.3")
    value = train(cfg, tmp_path / "here", overrides=["seed=0"], trial=True)
    monkeypatch.chdir(tmp_path)
    assert run_isolated(cfg, Path("apart"), ["seed=0"]) == value
    assert_same_run(tmp_path / "here", tmp_path / "apart")
    record = record_of(tmp_path / "apart")
    assert (record.status, record.test, record.overrides) == ("completed", None, ["seed=0"])
    assert "epoch 2/2" in (tmp_path / "apart" / "run.log").read_text()
    assert not (tmp_path / "apart" / JOB).exists()


def test_a_completed_one_needs_no_process(
    config: Make, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    value = train(config(), tmp_path, trial=True)
    assert run_isolated(config(), tmp_path, []) == value
    with pytest.raises(UserError, match="other settings"):
        run_isolated(config("seed=1"), tmp_path, [])
    assert started == []


def test_two_devices_train_one_trial(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):  # a job of one task, as submitit's are
        monkeypatch.setenv(name, "1")
    words = ("data.train_images=16", "data.val_images=5", "trainer.pause_after=1")
    cfg = config(*words, "trainer.max_epochs=2", "trainer.devices=2", "trainer.strategy=ddp")
    value = run_isolated(cfg, tmp_path, [])
    record, (row,) = record_of(tmp_path), read_history(tmp_path)
    assert (record.status, record.objective["value"]) == ("paused", value)
    assert row["step"] == 2  # of 16 images, 4 on each device
    log = (tmp_path / "run.log").read_text()
    assert log.count("epoch 1/2") == 1
    assert "Traceback" not in log


def test_why_it_failed_is_told(config: Make, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"data.batch_size=1 .* leave batch norm a single"):
        run_isolated(config("data.batch_size=1"), tmp_path, [])
    assert record_of(tmp_path).status == "failed"
    assert "Traceback" in (tmp_path / "run.log").read_text()


def test_what_broke_before_the_run_began_is_recorded(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config()
    cfg.task.module._target_ = "nowhere.Module"
    (tmp_path / "phasewise").mkdir()
    (tmp_path / "phasewise" / "__init__.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)  # what lies here is not the project's
    with pytest.raises(RunFailedError, match=r"nowhere"):
        run_isolated(cfg, tmp_path / "run", [])
    monkeypatch.setattr(isolated, "JOB", "missing/job.yaml")
    monkeypatch.setattr(isolated.OmegaConf, "save", lambda *_: None)
    told = "its process ended early, with exit code 1; see run.log"
    with pytest.raises(RunFailedError, match=told):
        run_isolated(cfg, tmp_path / "other", ["seed=0"])
    record = record_of(tmp_path / "other")
    assert (record.status, record.error, record.overrides) == ("failed", told, ["seed=0"])


def test_a_killed_one_has_failed_and_the_next_goes_on(
    config: Make, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    def kill() -> None:
        wait_for(tmp_path / "checkpoints" / "last.ckpt")
        started[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    told = "its process was killed by SIGKILL; often the machine's memory ran out"
    with pytest.raises(RunFailedError, match=told):
        run_isolated(config("trainer.max_epochs=40"), tmp_path, [])
    thread.join()
    record, rows = record_of(tmp_path), read_history(tmp_path)
    assert (record.status, record.error, record.is_final) == ("failed", told, True)
    assert record.cost["epochs"] == len(rows) >= 1
    assert record.last["val/loss"] == rows[-1]["val/loss"]
    with pytest.raises(UserError, match="other settings"):  # what it left is in the way
        run_isolated(config("seed=1"), tmp_path, [])


ISOLATED = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from phasewise.training.isolated import run_isolated
run_isolated(OmegaConf.load(sys.argv[1]), Path(sys.argv[2]), [])
"""


@pytest.fixture
def sweep(config: Make, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that trains a trial apart, in ``tmp_path / "run"``."""
    OmegaConf.save(config("trainer.max_epochs=200"), tmp_path / "config.yaml", resolve=True)
    command = [sys.executable, "-c", ISOLATED, str(tmp_path / "config.yaml"), str(tmp_path / "run")]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet)
    try:
        wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_does_not_outlive_the_sweep(
    sweep: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    sweep.send_signal(number)
    sweep.wait(30)
    deadline = time.monotonic() + 30
    while (record := record_of(tmp_path / "run")).status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (record.status, record.error) == ("interrupted", "stopped from outside")
    if number == signal.SIGINT:
        assert not (tmp_path / "run" / JOB).exists()


def test_nothing_heavy_is_imported_to_run_one() -> None:
    code = "import phasewise.training.isolated, sys; print({'torch', 'lightning'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True).strip() == "set()"


@pytest.mark.slow
def test_a_trial_of_a_sweep_logs_as_its_application_does(cache: Path, tmp_path: Path) -> None:
    words = [*TINY, f"data.cache_dir={cache}", f"hydra.sweep.dir={tmp_path}", "seed=0"]
    command = [sys.executable, ROOT / "train.py", "-m", *words]
    command += ["study.isolate=true", "study.report=false", "optimizer.lr=1e-3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("*/run.log")
    assert re.match(r"\d{4}-\d\d-\d\d [\d:,]+ INFO phasewise\.", log.read_text())

"""Runs a trial in a process of its own, so that one that is killed takes nothing with it.

Lightning's DDP starts the other devices with the command of the process that trains: here that is
`phasewise.training.worker`, not the sweep, which would otherwise exist once per device. Imports no
torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from phasewise.config.fingerprint import plain_config
from phasewise.config.lifecycle import is_done, mark_failed, start_record
from phasewise.config.previous import previous_run
from phasewise.errors import CONTINUES, RunFailedError, StorageError
from phasewise.project import module_environment
from phasewise.records.record import RunRecord

JOB = ".job.yaml"
"""What the worker is to do; it lies in the run's directory as long as the worker lives."""

GRACE_SECONDS = 60.0
"""How long a worker may take to end cleanly when it is told to."""


def run_isolated(cfg: DictConfig, directory: Path, overrides: Sequence[str]) -> float | None:
    """Train one trial in a process of its own; see `phasewise.training.run.train`.

    Ctrl-C and SIGTERM end the worker cleanly before they are passed on.

    Args:
        cfg: composed and checked.
        directory: of the run.
        overrides: what made this config, for the record.

    Returns:
        The objective at its best epoch; None where it is undefined.

    Raises:
        UserError: ``directory`` holds another run.
        RunFailedError: the trial did not complete; if its process died, its record says so now.
        StorageError: a disk is full or fails; the trial can go on when that is mended.
    """
    directory = Path(directory).absolute()
    record = before = previous_run(directory, cfg)
    if record is None or not is_done(record, cfg, trial=True):
        code = _work(cfg, directory, overrides)
        record = previous_run(directory, cfg)
        if record is None or not is_done(record, cfg, trial=True):
            if code in (os.EX_IOERR, -signal.SIGBUS):
                raise StorageError(_fault(record if record != before else None, directory))
            raise RunFailedError(_reason(record, cfg, directory, overrides, code))
    return record.objective["value"]


def _work(cfg: DictConfig, directory: Path, overrides: Sequence[str]) -> int:
    """The worker's exit code; negative, the signal that killed it."""
    directory.mkdir(parents=True, exist_ok=True)
    job = directory / JOB
    logs = None
    if HydraConfig.initialized():
        logs = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    content = {"config": plain_config(cfg), "overrides": list(overrides), "logging": logs}
    OmegaConf.save(content, job)
    # Lightning, not srun, is to start the other devices
    environment = module_environment() | {"SLURM_JOB_NAME": "interactive"}
    process = subprocess.Popen(
        [sys.executable, "-m", "phasewise.training.worker", str(job), str(directory)],
        env=environment,
        start_new_session=True,  # Ctrl-C reaches it once, from here
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what DDP may have left
        process.wait()
        job.unlink(missing_ok=True)


def _fault(record: RunRecord | None, directory: Path) -> str:
    """What became of a disk, as the trial's record tells it if it could be written."""
    if record is not None and record.status == "interrupted" and record.error is not None:
        return record.error
    return f"{directory}: a disk that this trial writes to is full or fails\n{CONTINUES}"


def _reason(
    record: RunRecord | None, cfg: DictConfig, directory: Path, overrides: Sequence[str], code: int
) -> str:
    """Why a trial did not complete; one whose process died before it could say so is recorded."""
    if record is not None and record.status == "completed":
        return "the test of the completed run failed; see run.log"
    if record is not None and record.error is not None:
        return record.error
    if code < 0:
        reason = f"its process was killed by {signal.Signals(-code).name}"
        reason += "; often the machine's memory ran out" * (-code == signal.SIGKILL)
    else:
        reason = f"its process ended early, with exit code {code}; see run.log"
    mark_failed(record or start_record(cfg, directory, overrides), reason)
    return reason

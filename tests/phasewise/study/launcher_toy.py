"""A job for launchers: study_toy's, which can take its time and take its process with it."""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from pathlib import Path

import study_toy
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from phasewise.config.fingerprint import fingerprint, plain_config
from phasewise.config.lifecycle import own_overrides
from phasewise.records.lock import locked
from phasewise.records.record import RunRecord, read_record


class UnsendableError(Exception):
    """Pickles, but is not made again from its message alone."""

    def __init__(self, what: str, *, detail: str) -> None:
        super().__init__(f"{what}: {detail}")


def run(cfg: DictConfig) -> float | None:
    """Hold the directory, as `phasewise.training.run` does, and run the study's toy.

    In the environment: SECONDS_EACH, how long it takes. A learning rate of 7 kills the process,
    one of 8 raises what cannot be sent.
    """
    directory = Path(HydraConfig.get().runtime.output_dir)
    with locked(directory, wait=True):
        record = read_record(directory)
        if record is None or record.status != "completed":
            _begin(cfg, directory)
        return study_toy.run(cfg)


def _begin(cfg: DictConfig, directory: Path) -> None:
    RunRecord.start(
        directory,
        task=cfg.task.name,
        fingerprint=fingerprint(cfg),
        overrides=own_overrides(HydraConfig.get().overrides.task),
        seed=cfg.seed,
        metric=cfg.objective.metric,
        mode=cfg.objective.mode,
        study=plain_config(cfg)["study"].get("trial"),
    )
    with (directory / "begun").open("a") as begun:
        begun.write("x")
    logging.getLogger(__name__).info("said by a trial")
    warnings.warn("warned by a trial", stacklevel=1)
    os.system("echo echoed by a trial")
    (directory / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    time.sleep(float(os.environ.get("SECONDS_EACH", "0")))
    if cfg.optimizer.lr == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.optimizer.lr == 8:
        raise UnsendableError("broken", detail="on purpose")

"""A sweep's job without a network: its score follows from the config, some trials end badly."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from phasewise.config.fingerprint import fingerprint, plain_config
from phasewise.config.lifecycle import own_overrides
from phasewise.errors import DivergedError
from phasewise.records.record import RunRecord


def run(cfg: DictConfig) -> float | None:
    """Leave a record in the trial's directory.

    ``optimizer.lr`` chooses the end: 3 raises before a record exists, 4 dies half-way, 5 diverges,
    6 is Ctrl-C, 7 finds a full disk if FULL is set, 8 returns without a final record.
    """
    lr = cfg.optimizer.lr
    if lr == 3.0:
        raise RuntimeError("no record yet")
    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    with (directory / "calls").open("a") as calls:
        calls.write("x")
    record = RunRecord.start(
        directory,
        task=cfg.task.name,
        fingerprint=fingerprint(cfg),
        overrides=own_overrides(settings.overrides.task),
        seed=cfg.seed,
        metric=cfg.objective.metric,
        mode=cfg.objective.mode,
        study=plain_config(cfg)["study"].get("trial"),
    )
    if lr == 4.0:
        logging.getLogger(__name__).warning("about to die")
        raise RuntimeError("died half-way\nsecond line")
    if lr == 5.0:
        record.finish("diverged", error="the loss became NaN")
        raise DivergedError("the loss became NaN")
    if lr == 6.0:
        record.finish("interrupted", error="stopped from outside")
        raise KeyboardInterrupt
    if lr == 7.0 and os.environ.get("FULL"):
        raise OSError(28, "No space left on device", str(directory / "last.ckpt"))
    if lr == 8.0:
        return None
    score = 0.5 - abs(math.log10(lr) + 2) / 10 + 0.01 * cfg.seed
    record.finish(
        "completed",
        value=score,
        epoch=1,
        best={"val/mIoU": score, "val/loss": 1 - score},
        cost={"seconds": 2.34, "parameters": 1234567},
    )
    return score


def silent(cfg: DictConfig) -> float:
    """A job of another kind, which leaves no record."""
    if cfg.optimizer.lr == 3.0:
        raise RuntimeError("a job's own error")
    return float(cfg.optimizer.lr)

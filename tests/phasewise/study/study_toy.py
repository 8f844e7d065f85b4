"""A job for studies without a network: its curve follows from the config; it can be killed."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from phasewise.config.fingerprint import fingerprint, plain_config
from phasewise.config.lifecycle import own_overrides
from phasewise.errors import OutOfMemoryError
from phasewise.records.history import History
from phasewise.records.record import RunRecord, read_record

BONUS = {"native": 0.0, "relu": 0.0, "gelu": 0.05, "silu": 0.02, "elu": math.nan}
PARAMETERS = {"native": 1000, "relu": 1000, "gelu": 12000, "silu": 4000, "elu": 1000}


def boxes(cfg: DictConfig) -> float:
    """The mAP, highest with lr near .001, ten times below where the mIoU is."""
    return 0.4 - abs(math.log10(cfg.optimizer.lr) + 3) / 10 + 0.002 * cfg.seed


def score(cfg: DictConfig, epoch: int) -> float:
    """Higher with more epochs, with lr near .01, by activation; slow starters overtake."""
    lr = cfg.optimizer.lr
    height = 0.5 - abs(math.log10(lr) + 2) / 10 + BONUS[cfg.model.activation]
    height += 0.1 * cfg.model.dropout_rate * (1 if cfg.seed % 2 else -1) + 0.001 * cfg.seed
    return height * (1 - math.exp(-epoch))


def run(cfg: DictConfig) -> float | None:
    """Epoch after epoch; ``calls`` and ``finished`` count. Continues where it was killed.

    In the environment: KILL_AT, the epoch of the whole process at which it is killed; MEMORY, how
    many images, as wide as they are, a batch may have. A learning rate of 9 raises.
    """
    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    before = read_record(directory)
    if before is not None and before.status == "completed":
        if cfg.test is True and before.test is None:
            before.test = {"test/mIoU": before.objective["value"] - 0.01, "test/mAP": boxes(cfg)}
            before.write()
        return before.objective["value"]
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
    if cfg.optimizer.lr == 9:
        raise RuntimeError("broken on purpose")
    if cfg.data.batch_size * cfg.data.image_size > float(os.environ.get("MEMORY", "inf")):
        record.finish("out_of_memory", error="the device has no more")
        raise OutOfMemoryError("the device has no more")
    history = History(directory)
    epochs = cfg.trainer.max_epochs
    end = min(cfg.trainer.pause_after or epochs, epochs)
    for epoch in range(len(history.rows) + 1, end + 1):
        _count_epoch()
        value = score(cfg, epoch)
        history.append(
            {"epoch": epoch, "val/mIoU": value, "val/mAP": boxes(cfg), "val/loss": 1 - value}
        )
    best = history.best(cfg.objective.metric, cfg.objective.mode)
    value = None if best is None else best[cfg.objective.metric]
    record.finish(
        "completed" if end == epochs else "paused",
        value=value,
        epoch=None if best is None else int(best["epoch"]),
        best={}
        if best is None
        else {key: best[key] for key in ("val/mIoU", "val/mAP", "val/loss")},
        test={"test/mIoU": value, "test/mAP": boxes(cfg)} if cfg.test is True else None,
        cost={
            "seconds": 1.0,
            "epochs": len(history.rows),
            "parameters": PARAMETERS[cfg.model.activation],
        },
    )
    if end == epochs:
        with (directory / "finished").open("a") as finished:
            finished.write("x")
    return value


def _count_epoch() -> None:
    """One more epoch of this process; the end of it where KILL_AT says so."""
    count = int(os.environ.get("_EPOCHS", "0")) + 1
    os.environ["_EPOCHS"] = str(count)
    if count == int(os.environ.get("KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)

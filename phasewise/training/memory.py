"""What a run does about memory: keep what it will need again, give back the rest, and go on with
smaller batches where it runs out."""

from __future__ import annotations

import atexit
import ctypes
import gc
import math
import os
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from phasewise.config.schema import check_config
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.sampling import InParts, limited
from phasewise.errors import UserError
from phasewise.records.checkpoints import FOLDER, REMOVED
from phasewise.records.history import FILE
from phasewise.storage import causes
from phasewise.training.trackers import TRACKER_ID

LOWERED = ("batch_size", "accumulate_grad_batches")
"""Under these names the cost of a run says how it was cut, where it was."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of ``mallopt``, see glibc's malloc.h and its manual page."""

_TUNED = ("MALLOC_", "GLIBC_TUNABLES")


def halved(cfg: DictConfig) -> DictConfig | None:
    """The config with batches of half the size, and twice as many of them per optimizer step.

    Returns:
        None where there is no half, or the task does not allow it.
    """
    if cfg.data.batch_size % 2:
        return None
    size, parts = cfg.data.batch_size // 2, 2 * cfg.trainer.accumulate_grad_batches
    smaller = with_batch(cfg, dict(zip(LOWERED, (size, parts), strict=True)))
    try:
        check_config(smaller)
    except UserError:
        return None
    return smaller


def batch_of(cfg: DictConfig) -> dict[str, int]:
    """The values under the names of `LOWERED`."""
    return dict(
        zip(LOWERED, (cfg.data.batch_size, cfg.trainer.accumulate_grad_batches), strict=True)
    )


def with_batch(cfg: DictConfig, cost: Mapping[str, Any]) -> DictConfig:
    """A copy of the config with the batches that the cost of a run tells of, if it does."""
    cfg = cfg.copy()
    if all(name in cost for name in LOWERED):
        cfg.data.batch_size, cfg.trainer.accumulate_grad_batches = (cost[key] for key in LOWERED)
    return cfg


def keep_steps(trainer: L.Trainer, data: StoreDataModule, parts: int) -> None:
    """As many steps and as many images as with whole batches, also where they are limited.

    Args:
        trainer: has not begun.
        data: set up, with batches that are cut.
        parts: into how many each is cut; a short last one into fewer.
    """
    cut = InParts(data.schedule("train"), parts).parts
    trainer.accumulate_grad_batches = trainer.accumulate_grad_batches // parts * cut
    trainer.limit_train_batches = cut * limited(
        trainer.limit_train_batches, len(data.schedule("train"))
    )
    for split in ("val", "test"):
        if data.splits.stores.get(split):
            whole = math.ceil(len(data.schedule(split)) / parts)
            name = f"limit_{split}_batches"
            setattr(trainer, name, parts * limited(getattr(trainer, name), whole))


def remove_leftovers(directory: Path) -> None:
    """Remove what training has left in a run's directory, for the run begins anew."""
    events = directory.glob("events.out.tfevents.*")
    ids = directory.glob(f"*{TRACKER_ID}")
    told = directory / FOLDER / REMOVED
    for path in (*(directory / FOLDER).glob("*.ckpt*"), told, directory / FILE, *events, *ids):
        path.unlink(missing_ok=True)


def free_tensors(error: BaseException | None) -> None:
    """Let go of the tensors that the frames of a failed run hold as long as its error is kept.

    A sweep keeps the errors of its trials; see `traceback.clear_frames`.
    """
    for one in causes(error):
        traceback.clear_frames(one.__traceback__)


def keep_freed_memory() -> None:
    """What this process frees stays its own until `release_memory`.

    glibc returns large pieces to the system as soon as they are free, and a network's activations
    on the CPU are such pieces: each step would get them anew, page by page, thousands of them.
    Whoever has set glibc's variables knows better; other C libraries are left as they are.
    """
    if (libc := _glibc()) is None or any(name.startswith(_TUNED) for name in os.environ):
        return
    libc.mallopt(_MMAP_THRESHOLD, 2**30)
    libc.mallopt(_TRIM_THRESHOLD, -1)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def release_memory() -> None:
    """Collect what only knows itself (a trainer and its module), for the next run's sake.

    What is there after a first run, the libraries above all, stays for good: to look through it
    again would take a third of a second after each run.
    """
    gc.collect()
    _freeze()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # a sweep's networks share their code, of which it compiles eight
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@cache  # to ask how much is frozen counts it, a twentieth of a second
def _freeze() -> None:
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries that count what is left complain at the end

"""What an error of a training means: for the run's record, and for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import DivergedError, UserError, is_out_of_memory
from phasewise.records.schema import Status
from phasewise.storage import storage_error

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")
"""Whose errors are those of ``trainer.compile``."""


def explain(
    error: Exception, config: Mapping[str, Any], data: L.LightningDataModule
) -> UserError | None:
    """What a person can do about an error of ``Trainer.fit``; None of one that nobody foresaw."""
    if type(error).__module__.startswith(COMPILERS):
        mode = config["trainer"]["compile"]
        reason = str(getattr(error, "inner_exception", error)).splitlines()[0]
        return UserError(
            f"trainer.compile={mode} does not work here ({reason}); "
            "trainer.compile=none trains without"
        )
    if isinstance(error, MisconfigurationException) or "conditioned on metric" in str(error):
        # of a callback that goes by a metric which nobody logs
        return UserError(" ".join(str(error).split()))
    if isinstance(data, StoreDataModule) and "more than 1 value per channel" in str(error):
        return UserError(
            f"data.batch_size={data.batch_size} (of {data.summary().counts['train']} training "
            f"images) and data.image_size={data.image_size} leave batch norm a single value "
            "per channel; a larger one of them, or model.norm=group, is needed"
        )
    if isinstance(error, MisconfigurationException) or "conditioned on metric" in str(error):
        return UserError(" ".join(str(error).split()))  # a callback's metric that nobody logs
    return None


def status_of(error: BaseException, output_directories: Sequence[Path] = ()) -> tuple[Status, str]:
    """How a run ended that raised ``error``, having written in ``output_directories``."""
    text = f"{type(error).__name__}: {error}"
    if (full := storage_error(error, output_directories)) is not None:
        return "interrupted", str(full)
    if isinstance(error, UserError):
        return "failed", str(error)
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if is_out_of_memory(error):
        advice = "a smaller data.batch_size, data.image_size or model.backbone needs less"
        return "out_of_memory", f"{text.splitlines()[0]}\n{advice}"
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "interrupted", "stopped from outside"
    return "failed", text

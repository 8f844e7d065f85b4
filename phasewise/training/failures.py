"""What an error of a training means: for the run's record, and for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.records.ending import status_of as records_status
from phasewise.records.schema import Status

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
    status, reason = records_status(error, output_directories)
    if status == "out_of_memory":
        reason += "\na smaller data.batch_size, data.image_size or model.backbone needs less"
    return status, reason

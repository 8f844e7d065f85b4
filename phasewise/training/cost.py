"""What a run has cost, for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L

from phasewise.data.resources import peak_memory_mb
from phasewise.records.checkpoints import BEST, FOLDER
from phasewise.training.callbacks import EpochLog


def measured_cost(
    directory: Path,
    rows: Sequence[Mapping[str, float]],
    module: L.LightningModule | None,
    trainer: L.Trainer | None,
) -> dict[str, Any]:
    """Time of an epoch, speed, memory and sizes; None where a run that ended early has none.

    Args:
        directory: of the run.
        rows: of its epochs, from ``metrics.csv``.
        module, trainer: as far as the run has come to have them.
    """
    seconds = [row["seconds"] for row in rows]
    checkpoint = directory / FOLDER / f"{BEST}.ckpt"
    parameters = [] if module is None else [*module.parameters()]
    callbacks = trainer.callbacks if trainer else []  # type: ignore[attr-defined]
    speed = [one.images_per_second for one in callbacks if isinstance(one, EpochLog)]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return {
        "seconds_per_epoch": median(seconds) if seconds else None,
        "images_per_second": speed[0] if speed else None,
        "peak_memory_mb": peak_memory_mb(),
        "parameters": sum(p.numel() for p in parameters) if module is not None else None,
        "trained_parameters": trained if module is not None else None,
        "checkpoint_mb": checkpoint.stat().st_size / 2**20 if checkpoint.is_file() else None,
        "epochs": len(rows),
    }

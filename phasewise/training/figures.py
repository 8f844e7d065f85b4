"""The figures of a run: what its module draws, and where they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from phasewise.data.datamodule import StoreDataModule
from phasewise.figures import written
from phasewise.training.logs import log_embedding
from phasewise.training.module import TaskModule
from phasewise.training.trackers import log_picture


def figures(
    module: L.LightningModule,
    data: L.LightningDataModule,
    splits: Sequence[str],
    count: int,
    trainer: L.Trainer,
) -> Iterator[tuple[str, Figure]]:
    """What the module draws of splits, by name; nothing of foreign modules or data.

    Args:
        module: on its device.
        data: set up.
        splits: ``val``, ``test``.
        count: of images, see `TaskModule.draw`.
        trainer: whose TensorBoard gets the embedding of validation images.
    """
    if not isinstance(module, TaskModule) or not isinstance(data, StoreDataModule):
        return
    for split in splits:
        prefix = "" if split == "val" else f"{split}_"
        for name, figure in module.draw(data, split, count).items():
            yield f"{prefix}{name}", figure
        if split == "val" and (embedding := module.embedding()) is not None:
            for board in trainer.loggers:
                if isinstance(board, TensorBoardLogger):
                    log_embedding(board, embedding)


def write_figures(pictures: Iterable[tuple[str, Figure]], folder: Path, trainer: L.Trainer) -> None:
    """Write figures as PNG files, and show them to the loggers."""
    files: list[Path] = []
    with written() as write:
        for name, figure in pictures:
            files.append(folder / f"{name}.png")
            write(figure, files[-1])
    for file in files:
        log_picture(trainer.loggers, file, trainer.global_step)

"""What a run's figures are to be read beside: trivial predictors, the network before training, and
by how much the objective depends on the items that validation happens to have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L

from phasewise.analysis.bootstrap import resample
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.evaluating import evaluating
from phasewise.training.module import Scores, TaskModule

RESAMPLES = 200
"""Their standard deviation is known to 5 % then: 1 / sqrt(2 * 200)."""

DIGITS = 6
"""Of what is kept; a record is to be read by people too."""


def trivial_scores(
    trainer: L.Trainer, module: L.LightningModule | None, data: L.LightningDataModule, split: str
) -> dict[str, Scores]:
    """Metrics of trivial predictors, by the predictor's name and as ``val/mIoU``; none of a foreign
    task or of foreign data, whose trivial predictors nobody knows."""
    if not isinstance(module, TaskModule) or not isinstance(data, StoreDataModule):
        return {}
    _attach(trainer, module, data)
    return {
        name: {f"{split}/{key}": value for key, value in scores.items()}
        for name, scores in module.baselines(data, split).items()
    }


def start_scores(
    trainer: L.Trainer,
    module: L.LightningModule | None,
    data: L.LightningDataModule,
    splits: tuple[str, ...],
    *,
    from_run: bool,
) -> Scores:
    """Metrics of a network before training, by full name.

    Every process looks at all that is evaluated, before they know of each other.

    Args:
        trainer: of the run, which has not begun.
        module: with the weights that it starts from.
        data: read.
        splits: ``val`` first: what is fitted to validation data, such as a threshold, is part of a
            network.
        from_run: whether all its weights are those of another run.

    Returns:
        Nothing of a network whose metrics mean nothing (see `TaskModule.works_untrained`), of a
        foreign task, or of foreign data.
    """
    if not isinstance(module, TaskModule) or not isinstance(data, StoreDataModule):
        return {}
    if not (from_run or module.works_untrained):
        return {}
    _attach(trainer, module, data)
    found: Scores = {}
    for split in splits:
        with evaluating(trainer, module):
            for batch in _batches(module, data, split):
                module.evaluate(batch)
            found |= module.epoch_metrics(split)
    return found


def resampled_objective(
    trainer: L.Trainer, module: L.LightningModule | None, data: L.LightningDataModule, metric: str
) -> dict[str, Any]:
    """The objective in `RESAMPLES` resamples of the items of validation data.

    Args:
        trainer: of the run.
        module: with the weights that are kept.
        data: of the run.
        metric: the objective, ``val/mIoU``.

    Returns:
        ``resampled`` of a record; empty where the task tells no items, these do not make up the
        objective, or several devices share the work.
    """
    name = metric.removeprefix("val/")
    known = isinstance(module, TaskModule) and isinstance(data, StoreDataModule)
    if not known or name == metric or trainer.world_size > 1:
        return {}
    assert isinstance(module, TaskModule)
    assert isinstance(data, StoreDataModule)
    _attach(trainer, module, data)
    observed = []
    with evaluating(trainer, module):
        for batch in _batches(module, data, "val"):
            outputs, _ = module.losses(batch)
            module.update_metrics(outputs, batch)
            observed.append(module.observe(outputs, batch))
        items = module.items(observed)
        module.compute_metrics("test")  # which forgets them, and fits nothing to them
    if items is None or not len(items.rows):
        return {}
    values = resample(items, resamples=RESAMPLES, seed=0).get(name)
    if values is None:
        return {}
    return {
        "metric": metric,
        "unit": items.unit,
        "count": len(items.rows),
        "values": [float(f"{value:.{DIGITS}g}") for value in values],
    }


def _attach(trainer: L.Trainer, module: TaskModule, data: StoreDataModule) -> None:
    data.trainer = trainer  # its limits hold for what is compared, see `evaluated_rows`
    module.to(trainer.strategy.root_device)  # where Lightning moves it in `fit` only


def _batches(module: TaskModule, data: StoreDataModule, split: str) -> Iterator[Batch]:
    for index in data.evaluated_rows(split).split(data.batch_size):
        yield data.prepared(split, index, module.device)

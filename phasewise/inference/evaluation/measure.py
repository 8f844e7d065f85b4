"""One pass over a split: the task's own metrics, and the scores of single items."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from phasewise.analysis.items import Items
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.resources import best_precision
from phasewise.training.module import Scores, TaskModule


@dataclass(frozen=True)
class Measured:
    """What came of it.

    Attributes:
        metrics: by full name, ``test/mIoU``; undefined ones are NaN.
        items: None for tasks that have none, or where no item counts.
        baselines: metrics of trivial predictors, by the predictor's name.
        seconds: of the pass, without the baselines.
    """

    metrics: Scores
    items: Items | None
    baselines: dict[str, Scores]
    seconds: float


@torch.no_grad()
def measure(
    module: TaskModule,
    data: StoreDataModule,
    split: str,
    precision: str,
    others: Sequence[TaskModule] = (),
    *,
    as_trained: bool = True,
) -> Measured:
    """Evaluate a network as a training does, or several as one.

    Args:
        module: in eval mode, on its device.
        data: set up.
        split: which has rows.
        precision: Lightning's name, see `run_precision`.
        others: networks that count as one with ``module``, which speaks for them (see
            `TaskModule.together`); losses are left out then.
        as_trained: false where masks are compared at another size than in training: losses and
            trivial predictors, which are not, are left out.
    """
    start = time.perf_counter()
    batches = torch.arange(len(data.splits.stores[split])).split(data.batch_size)
    observed = []
    with autocast(module.device, precision):
        for index in tqdm(batches, desc=f"{split} batches", leave=False, delay=2):
            batch = data.prepared(split, index, module.device)
            if others or not as_trained:
                each = [it.losses(batch)[0] for it in (module, *others)]
                outputs = module.together(each) if others else each[0]
                module.update_metrics(outputs, batch)
            else:
                outputs = module.evaluate(batch)
            observed.append(module.observe(outputs, batch))
        items = module.items(observed)
        # A look at validation data is none to choose by: that is what training does.
        if others or not as_trained:
            found = module.compute_metrics("test")
            metrics = {f"{split}/{name}": value for name, value in found.items()}
        else:
            metrics = module.epoch_metrics("test", prefix=split)
    seconds = time.perf_counter() - start
    baselines = {
        name: {f"{split}/{key}": value for key, value in scores.items()}
        for name, scores in (module.baselines(data, split) if as_trained else {}).items()
    }
    if items is not None and not len(items.rows):
        items = None
    return Measured(metrics, items, baselines, seconds)


def run_precision(config: Mapping[str, Any], device: torch.device) -> str:
    """The precision that a run of this config has on a device."""
    chosen: str = config["trainer"]["precision"]
    if chosen == "16-mixed" and device.type == "cpu":
        return "bf16-mixed"  # as Lightning has it
    return best_precision(device.type) if chosen == "auto" else chosen


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """As Lightning computes under ``32-true``, ``bf16-mixed`` and ``16-mixed``."""
    if precision == "32-true":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype)

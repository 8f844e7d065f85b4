"""What a training costs besides its matrix products, task by task.

    python benchmarks/training.py [--tasks multitask,reid] [--epochs 6] [--json FILE] [overrides]

A run of `train.py`'s own path, with a callback that times, on the same machine in the same seconds,

- the bare step: a second copy of network, loss and optimizer, in the same precision, on a batch
  that is on the device already; no Lightning, no data, no logging. On the CPU after each step of
  the run, so that what else the machine does weighs on both; on a GPU, whose queue that would
  empty, after each epoch;
- after each epoch, the data path alone: gather and augmentation of a batch;
- the usual recipe: the same step fed by a DataLoader that decodes, resizes and flips JPEG files
  with torchvision in two worker processes.

Ratios are medians over the epochs from the second on. On a machine that does other work too they
stay meaningful, because the parts alternate; seconds do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import hydra
import lightning as L
import results
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from results import ROOT
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import write_jpeg

import phasewise.training.trainer
from phasewise.config.fingerprint import plain_config
from phasewise.data.batch import Batch
from phasewise.data.resources import device_name
from phasewise.records.record import read_record
from phasewise.training.build import build_module
from phasewise.training.module import TaskModule
from phasewise.training.optim import build_optimizer
from phasewise.training.run import train

TASKS = ("multitask", "segmentation", "reid", "localization")
STORED = 375
"""Side of the JPEG files of the usual recipe, in pixels: about that of PASCAL VOC's images."""


class _Jpegs(Dataset[Tensor]):
    """Images as files, decoded whenever they are asked for."""

    def __init__(self, images: Tensor, side: int, folder: Path) -> None:
        from torchvision.transforms import v2

        large = v2.functional.resize(images, [STORED, STORED], antialias=True)
        self.files = [folder / f"{row}.jpg" for row in range(len(large))]
        for file, image in zip(self.files, large, strict=True):
            write_jpeg(image, str(file), quality=90)
        self.transform = v2.Compose(
            [
                v2.Resize([side, side], antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        from torchvision.io import decode_image

        image: Tensor = self.transform(decode_image(str(self.files[row])))
        return image


class Stopwatch(L.Callback):
    """Times the epochs of a run and, between them, the parts alone.

    Args:
        cfg: of the run.
        folder: for the files of the usual recipe.
    """

    def __init__(self, cfg: DictConfig, folder: Path) -> None:
        self.cfg = cfg
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.metric_seconds = 0.0
        self._start = self._middle = self._bare_seconds = 0.0
        self._steps = 0
        self._batch = Batch()

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        """Build the second copy, and time the metrics from now on."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        twin = build_module(plain_config(self.cfg), data.describe())
        assert isinstance(twin, TaskModule)
        self.twin = twin.to(module.device).train()
        self._between_steps = module.device.type == "cpu"
        self.optimizer = build_optimizer(module.optimizer_config, self.twin.parameter_groups())
        for name in ("update_metrics", "compute_metrics"):
            setattr(module, name, self._timed(getattr(module, name)))

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        """The epoch begins."""
        self._sync()
        self._start, self._steps, self.metric_seconds = time.perf_counter(), 0, 0.0
        self._bare_seconds = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch for the bare step, and on the CPU take that at once."""
        self._steps += 1
        self._batch = Batch({key: value.detach() for key, value in batch.items()})
        if self._between_steps:
            start = time.perf_counter()
            self._bare(trainer)
            self._bare_seconds += time.perf_counter() - start

    def on_validation_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        """Training of the epoch is over."""
        self._sync()
        self._middle = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        """Time the parts, as often as the epoch had steps."""
        self._sync()
        end = time.perf_counter()
        row = {
            "training": (self._middle - self._start - self._bare_seconds) / self._steps,
            "validation": end - self._middle,
            "metrics": self.metric_seconds,
            "steps": float(self._steps),
        }
        if self._between_steps:
            row["bare step"] = self._bare_seconds / self._steps
        else:
            row["bare step"] = self._seconds(lambda: self._bare(trainer))
        row["data path"] = self._seconds(lambda: self._data(trainer))
        feed = self._recipe(trainer)
        if feed is not None:
            row["usual recipe"] = self._seconds(lambda: self._bare(trainer, next(feed)))
        self.rows.append(row)

    def _seconds(self, step: Any) -> float:
        """Of one call, as the mean over as many as the epoch had steps."""
        self._sync()
        start = time.perf_counter()
        for _ in range(self._steps):
            step()
        self._sync()
        return (time.perf_counter() - start) / self._steps

    def _bare(self, trainer: L.Trainer, images: Tensor | None = None) -> None:
        batch = self._batch if images is None else Batch(self._batch | {"image": images})
        with trainer.precision_plugin.forward_context():
            _, terms = self.twin.losses(batch)
            loss = self.twin.total_loss(terms)
        self.optimizer.zero_grad()
        loss.backward()
        if trainer.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.twin.parameters(), trainer.gradient_clip_val)
        self.optimizer.step()

    def _data(self, trainer: L.Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = data.gather("train", self._batch["index"].cpu(), self.twin.device)
        data._augment(rows, 0)

    def _recipe(self, trainer: L.Trainer) -> Iterator[Tensor] | None:
        """Batches of decoded files, on the device."""
        if not hasattr(self, "files"):
            data = trainer.datamodule  # type: ignore[attr-defined]
            index = torch.arange(len(data.splits.stores["train"]))
            images = data.gather("train", index, torch.device("cpu"))["image"]
            self.folder.mkdir()
            self.files = _Jpegs(images, images.shape[-1], self.folder)
        loader = DataLoader(
            self.files, len(self._batch["index"]), shuffle=True, drop_last=True, num_workers=2
        )
        device = self.twin.device
        return (images.to(device, non_blocking=True) for _ in iter(int, 1) for images in loader)

    def _timed(self, function: Any) -> Any:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            self.metric_seconds += time.perf_counter() - start
            return result

        return timed

    def _sync(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def measure(task: str, epochs: int, overrides: list[str]) -> dict[str, Any]:
    """Run one task and sum up its epochs from the second on."""
    with tempfile.TemporaryDirectory() as name:
        words = [
            f"task={task}",
            f"trainer.max_epochs={epochs}",
            "figures.images=0",
            "test=false",
            f"data.cache_dir={name}/cache",
            *overrides,
        ]
        with hydra.initialize_config_dir(str(ROOT / "conf"), "train", version_base="1.3"):
            try:
                cfg = hydra.compose("config", words)
            except HydraException as error:  # which cannot be sent to another process
                raise SystemExit(f"training.py: {error}") from None
        watch = Stopwatch(cfg, Path(name) / "jpeg")
        trainers: Any = phasewise.training.trainer
        build = trainers.build_callbacks
        trainers.build_callbacks = lambda *a: [watch, *build(*a)]
        try:
            train(cfg, Path(name) / "run", overrides=words)
        finally:
            trainers.build_callbacks = build
        record = read_record(Path(name) / "run")
    assert record is not None
    rows = watch.rows[1:]
    found: dict[str, Any] = {"task": task, "steps": int(rows[0]["steps"])}
    found["bare / end to end"] = median(row["bare step"] / row["training"] for row in rows)
    found["data path / bare"] = median(row["data path"] / row["bare step"] for row in rows)
    found["speed-up on recipe"] = median(row["usual recipe"] / row["training"] for row in rows)
    found["validation / training"] = median(
        row["validation"] / (row["training"] * row["steps"]) for row in rows
    )
    found["metrics / validation"] = median(row["metrics"] / row["validation"] for row in rows)
    found["peak memory MB"] = record.cost["peak_memory_mb"]  # with the second network
    found["bare step ms"] = 1000 * median(row["bare step"] for row in rows)
    return found


def _apart(*args: Any) -> dict[str, Any]:
    """`measure` in a process of its own, so that peaks of memory are the task's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    args, overrides = parser.parse_known_args()
    rows = [_apart(task, args.epochs, overrides) for task in args.tasks.split(",")]
    device = device_name("auto")
    print(results.machine(), device)
    for key in rows[0]:
        cells = [row[key] for row in rows]
        shown = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
        print(f"{key:<24}" + "".join(f"{cell:>14}" for cell in shown))
    results.write(args.json, device=device, overrides=overrides, tasks=rows)


if __name__ == "__main__":
    main()

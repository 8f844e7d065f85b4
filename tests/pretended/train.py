"""Trains tiny networks on the pretended device: ``python -m tests.pretended.train FOLDER``.

Below the folder, a run per task as it trains on the processor and one as it trains on the device;
on the screen, as JSON, the waits of the second by stage.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry

from phasewise.data import datamodule
from phasewise.training import trainer as training
from phasewise.training.run import train
from tests.conftest import ROOT, TINY_RUNS
from tests.pretended import device

STEPS = [
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=2",
    "trainer.train_metrics=true",
    "trainer.log_every_n_steps=1",
    "figures.images=1",
]
RICH = {
    "multitask": ["data.augment=[flip,rotate,color_jitter,blur,erase]"],
    "segmentation": ["data.augment=[vflip,crop,perspective,hue,cutout]"],
    "reid": ["data.augment=[flip,translate,color_augment,erase]"],
    "localization": ["data.augment=[flip,shift,scale,saturation,mixup]", "model.stride=8"],
}


class _Accelerator(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device: torch.device) -> None:
        pass

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return [0]

    @staticmethod
    def get_parallel_devices(devices: Any) -> Any:
        return [device.DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return device.NAME


class _Stages(L.Callback):
    """Counts the waits of each stage."""

    def __init__(self) -> None:
        self.stage = "around"
        self.waits: dict[str, Counter[str]] = defaultdict(Counter)
        device.observe(lambda what, place: self.waits[self.stage].update([f"{what} {place}"]))

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The first epoch brings the data to the device."""
        self.stage = "training" if trainer.current_epoch else "around"

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stage = "validation"

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stage = "around"


def main(folder: Path) -> None:
    """Train each task in both places."""
    kept = device.register()
    AcceleratorRegistry.register(device.NAME, _Accelerator)
    strategy = partial(SingleDeviceStrategy, device=device.DEVICE)
    StrategyRegistry.register(device.NAME, strategy)
    trainer = partial(L.Trainer, inference_mode=False)  # which knows no tensors but torch's own
    training.L.Trainer = trainer  # type: ignore[assignment, misc]
    training.check_devices = lambda *_: None  # type: ignore[assignment]
    training.find_device = lambda _: device.DEVICE  # type: ignore[assignment]
    callbacks = training.build_callbacks
    found = {}
    for task, tiny in TINY_RUNS.items():
        stages = _Stages()
        room = 0 if task == "segmentation" else 2**40  # one task's data do not fit
        datamodule.free_memory = lambda where, it=room: it * (where.type != "cpu")  # type: ignore
        words = (*tiny, *STEPS, *RICH[task], f"task={task}", f"data.cache_dir={folder}/cache")
        training.build_callbacks = lambda *args, it=stages: [
            *callbacks(*args),
            it,
        ]  # type: ignore
        for place in ("cpu", device.NAME):
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                cfg = compose("config", list(words))
            cfg.trainer.accelerator = place
            cfg.trainer.strategy = "auto" if place == "cpu" else place
            train(cfg, folder / place / task)
        found[task] = {stage: dict(waits) for stage, waits in stages.waits.items()}
    print(json.dumps(found, indent=1))
    del kept


if __name__ == "__main__":
    main(Path(sys.argv[1]))

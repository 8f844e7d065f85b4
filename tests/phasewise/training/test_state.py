"""Runs that follow each other in one process know nothing of each other, and leave nothing."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib.pyplot as plt
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from multitask.module import MultitaskModule
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.run import train
from tests.conftest import TINY
from tests.phasewise.training.directory import assert_same_run, train_elsewhere
from tests.reid.conftest import TINY_REID

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]
Before = Callable[[Path], list[BaseException]]

OTHERS: dict[str, tuple[tuple[str, ...], BaseException | None]] = {
    "deterministic": ((*TINY, "trainer.deterministic=true", "seed=5"), None),
    "bf16": ((*TINY, "trainer.precision=bf16-mixed", "figures.images=1"), None),
    "reid": (TINY_REID, None),
    "failed": (TINY, RuntimeError("it broke")),
    "memory": (TINY, torch.OutOfMemoryError("no memory")),
    "interrupted": (TINY, KeyboardInterrupt()),
}
"""Runs of all kinds, and what they end with in their second step."""


@pytest.fixture(scope="module")
def others(make_config: Make) -> Before:
    """Train all `OTHERS` below a directory; their errors are kept, as a sweep does."""

    def run(directory: Path) -> list[BaseException]:
        kept = []
        for name, (words, error) in OTHERS.items():
            with pytest.MonkeyPatch.context() as patch:
                if error is not None:
                    patch.setattr(MultitaskModule, "training_step", _raising(error))
                try:
                    train(make_config(*words), directory / name)
                except BaseException as caught:
                    kept.append(caught)
        assert len(kept) == 3
        return kept

    return run


@pytest.fixture(scope="module")
def before(others: Before, tmp_path_factory: pytest.TempPathFactory) -> list[BaseException]:
    """All of them in this process, with what is imported and made once."""
    return others(tmp_path_factory.mktemp("before"))


def _raising(error: BaseException) -> Callable[..., Tensor]:
    original = MultitaskModule.training_step

    def step(self: MultitaskModule, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            raise error
        return original(self, batch, batch_idx)

    return step


def state() -> dict[str, Any]:
    """What a run could leave behind in its process."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.Logger.manager.loggerDict)]
    return {
        "environment": dict(os.environ),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "type": torch.get_default_dtype(),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "products": torch.get_float32_matmul_precision(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "figures": plt.get_fignums(),
        "logging": [(it.name, list(it.handlers), list(it.filters), it.level) for it in loggers],
        "silenced": logging.root.manager.disable,
        "signals": [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)],
        "warnings": len(warnings.filters),
        "threads": sorted(it.name for it in threading.enumerate()),
        "folder": Path.cwd(),
    }


def held() -> int:
    """Live tensors, and what holds them."""
    gc.collect()
    kinds = (Tensor, L.Trainer, MultitaskModule, StoreDataModule)
    with warnings.catch_warnings(action="ignore"):  # some objects answer with a warning
        return sum(isinstance(it, kinds) for it in gc.get_objects())


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(it for it in lines if it.startswith("VmRSS:")).split()[1]) / 2**10


def test_runs_leave_their_process_as_it_was(
    before: list[BaseException], others: Before, tmp_path: Path
) -> None:
    found, tensors, memory = state(), held(), resident_mb()
    kept = others(tmp_path)
    after = state()
    for key, value in found.items():
        assert after[key] == value, key
    assert not {"PL_GLOBAL_SEED", "CUBLAS_WORKSPACE_CONFIG"} & os.environ.keys()
    assert held() <= tensors
    assert len(kept) == len(before)
    assert resident_mb() < memory + 100


@pytest.mark.usefixtures("before")
def test_what_ran_before_changes_nothing(make_config: Make, tmp_path: Path) -> None:
    words = ("trainer.max_epochs=2", "model.dropout_rate=0.3", "data.augment=[flip,scale]")
    cfg = make_config(*TINY, *words)
    done = train_elsewhere(cfg, tmp_path / "fresh")
    assert done.returncode == 0, done.stderr
    train(cfg, tmp_path / "after")
    assert_same_run(tmp_path / "fresh", tmp_path / "after")

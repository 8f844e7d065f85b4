"""Runs of the multi-task pipeline that go as a test wants."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from omegaconf import DictConfig
from torch import Tensor

from multitask.module import MultitaskModule
from tests.conftest import TINY

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, *words)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Lightning ignores Ctrl-C once it has seen one."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the validation metric what a test wants, epoch by epoch."""

    def script(*values: float) -> None:
        original = MultitaskModule.compute_metrics

        def scores(self: MultitaskModule, stage: str) -> dict[str, float]:
            found = original(self, stage)
            if stage == "test":
                return found
            return found | {"mIoU": values[self.current_epoch]}

        monkeypatch.setattr(MultitaskModule, "compute_metrics", scores)

    return script


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Raise an error in the second step of an epoch (counted from 1)."""

    def break_in(epoch: int, error: BaseException) -> None:
        original = MultitaskModule.training_step

        def step(self: MultitaskModule, batch: Any, batch_idx: int) -> Tensor:
            if (self.current_epoch + 1, batch_idx) == (epoch, 1):
                raise error
            return original(self, batch, batch_idx)

        monkeypatch.setattr(MultitaskModule, "training_step", step)

    return break_in

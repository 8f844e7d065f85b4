"""A trial in a launcher's process: what SLURM sends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasewise.cli import worker_process

WARNING = signal.SIGUSR2


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Which warnings were answered, while another one comes in each time."""
    monkeypatch.setattr(worker_process, "end_with_parent", lambda: None)
    found: list[int] = []

    def answer(number: int, frame: object) -> None:
        found.append(number)
        if len(found) < 3:
            os.kill(os.getpid(), WARNING)

    before = signal.signal(WARNING, answer)
    yield found
    signal.signal(WARNING, before)


def test_a_warning_that_comes_twice_is_answered_once(tmp_path: Path, heard: list[int]) -> None:
    with worker_process.in_worker(tmp_path):
        os.kill(os.getpid(), WARNING)
    assert heard == [WARNING]

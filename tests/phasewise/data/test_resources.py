from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from phasewise.data.resources import (
    best_precision,
    check_devices,
    device_name,
    peak_memory_mb,
    reset_peak_memory,
    used_precision,
)
from phasewise.errors import UserError
from tests.conftest import ROOT

MB = 2**20


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two that know bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_without_a_gpu(accelerator: str) -> None:
    assert best_precision(accelerator) == "32-true"
    assert device_name(accelerator) == "cpu"
    check_devices(accelerator, 1)
    wanted = {"auto": "32-true", "16-mixed": "bf16-mixed"}
    for asked in ("auto", "32-true", "bf16-mixed", "16-mixed"):
        assert used_precision(asked, accelerator) == wanted.get(asked, asked)


@pytest.mark.usefixtures("gpus")
def test_with_gpus() -> None:
    for accelerator in ("auto", "gpu", "cuda"):
        assert used_precision("auto", accelerator) == "bf16-mixed"
        assert used_precision("16-mixed", accelerator) == "16-mixed"
    assert used_precision("16-mixed", "cpu") == "bf16-mixed"
    for accelerator in ("auto", "gpu"):
        assert best_precision(accelerator) == "bf16-mixed"
        assert device_name(accelerator) == "H200"
        check_devices(accelerator, 2)
        with pytest.raises(UserError, match=r"trainer\.devices=3: this machine has 2 GPUs"):
            check_devices(accelerator, 3)
    assert best_precision("cpu") == "32-true"
    assert device_name("cpu") == "cpu"


@pytest.mark.usefixtures("gpus")
def test_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert best_precision("auto") == "32-true"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("accelerator", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there(accelerator: str) -> None:
    with pytest.raises(UserError, match=f"trainer.accelerator={accelerator}"):
        check_devices(accelerator, 1)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_more_processes_than_cores(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    check_devices(accelerator, 4)
    with pytest.raises(UserError, match=r"trainer\.devices=5: this machine has 4 CPU cores"):
        check_devices(accelerator, 5)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    check_devices(accelerator, 2)  # slow, but no mistake


def _can_reset() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


PEAKS = """
import torch
torch.cuda.is_available = lambda: False
from phasewise.data.resources import peak_memory_mb, reset_peak_memory
before = peak_memory_mb()
block = bytearray(200 * 2**20)
block[::4096] = b"x" * len(block[::4096])
during = peak_memory_mb()
del block
after = peak_memory_mb()
reset_peak_memory()
print(before, during, after, peak_memory_mb())
"""


@pytest.fixture(scope="module")
def peaks() -> list[float]:
    """MB before, during and after an allocation of 200 MB, and after a reset, in a process of its
    own: what other tests leave in the heap, and the peak they reached, decide elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", PEAKS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_rises_with_an_allocation(peaks: list[float]) -> None:
    before, during, after, _ = peaks
    assert 150 < during - before < 260
    assert after == pytest.approx(during, abs=20)  # a peak stays


@pytest.mark.skipif(not _can_reset(), reason="this kernel does not let a process reset its peak")
def test_the_peak_starts_anew_with_every_run(peaks: list[float]) -> None:
    assert peaks[-1] < peaks[1] - 150


@pytest.mark.usefixtures("no_gpu")
def test_peak_memory_elsewhere_is_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc: at least what Python with torch takes, in the same unit."""
    monkeypatch.setattr("phasewise.memory._STATUS", Path("/nowhere"))
    assert 50 < peak_memory_mb() < 1e5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_peak_memory_of_a_gpu() -> None:
    reset_peak_memory()
    before = peak_memory_mb()
    block = torch.zeros(100 * MB // 4, device="cuda")
    assert peak_memory_mb() - before == pytest.approx(100, abs=3)
    del block

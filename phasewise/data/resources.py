"""What a run has at hand and what it used: precision, memory."""

from __future__ import annotations

import os

import torch

from phasewise.errors import UserError
from phasewise.memory import process_peak_mb, reset_process_peak


def _uses_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def best_precision(accelerator: str) -> str:
    """``bf16-mixed`` on a GPU that computes in bfloat16, else ``32-true``."""
    usable = _uses_cuda(accelerator) and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if usable else "32-true"


def used_precision(asked: str, accelerator: str) -> str:
    """What is computed in: `best_precision` for ``auto``; a processor has no float16 to train in,
    and takes bfloat16 for it, as Lightning has it too."""
    if asked == "auto":
        return best_precision(accelerator)
    on_gpu = _uses_cuda(accelerator) or find_device(accelerator).type != "cpu"
    return asked if on_gpu or asked != "16-mixed" else "bf16-mixed"


def device_name(accelerator: str) -> str:
    """The model of the GPU that is used, or the accelerator's name: ``cpu``, ``mps``."""
    if _uses_cuda(accelerator):
        return torch.cuda.get_device_name()
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def find_device(accelerator: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``gpu`` or ``mps`` means here.

    Raises:
        UserError: there is none.
    """
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator in ("gpu", "mps"):
        raise UserError(f"accelerator={accelerator}: none here; auto takes what there is")
    return torch.device("cpu")


def check_devices(accelerator: str, devices: int) -> None:
    """Refuse what this machine does not have, before anything is read.

    Raises:
        UserError: no such accelerator here, or fewer devices than asked for.
    """
    mps = int(torch.backends.mps.is_available())
    there, what = (mps if accelerator == "mps" else torch.cuda.device_count() or mps), "GPUs"
    if accelerator == "cpu" or (accelerator == "auto" and not there):
        # One process each; two on one core are slow, but no mistake.
        there, what = max(os.cpu_count() or 1, 2), "CPU cores"
    if not there:
        raise UserError(f"trainer.accelerator={accelerator}: none here; auto takes what there is")
    if devices > there:
        raise UserError(f"trainer.devices={devices}: this machine has {there} {what}")


def free_memory(device: torch.device) -> int:
    """Bytes that a GPU has left; 0 of what has no memory of its own to tell of."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def reset_peak_memory() -> None:
    """Start measuring anew; several runs may share a process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    reset_process_peak()


def peak_memory_mb() -> float:
    """Most memory since `reset_peak_memory`, in MB of 2**20 bytes: of the GPU if there is one, else
    of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return process_peak_mb()

"""What a run changes in its process, where other runs follow it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ENVIRONMENT = (
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
)
"""Lightning sets these for the whole process, and for all that it starts later; we the last."""


@contextmanager
def restored_state() -> Iterator[None]:
    """Undo what seeding and ``trainer.deterministic`` set beyond the run that asked for it."""
    found = {name: os.environ.get(name) for name in ENVIRONMENT}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for name, value in found.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

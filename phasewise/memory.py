"""Memory that a process has used."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


def reset_process_peak() -> None:
    """Start measuring anew; several runs may share a process."""
    with suppress(OSError):  # Linux only; elsewhere the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")


def process_peak_mb() -> float:
    """Most memory of this process since `reset_process_peak`, in MB of 2**20 bytes."""
    with suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss / 2 ** (20 if sys.platform == "darwin" else 10)

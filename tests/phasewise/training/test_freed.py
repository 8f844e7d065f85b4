"""Memory that a run frees stays with its process until the run is over."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PIECES = """
import resource
import numpy as np
from phasewise.training.memory import give_back, keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():  # MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

def steps():
    for _ in range(5):
        pieces = [np.ones(8_000_000, np.uint8) for _ in range(10)]
        del pieces

keep_freed()
steps()
start = faults()
steps()
print(faults() - start, end=" ")
held = resident()
give_back()
print(held - resident())
"""

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr_names.get("CS_GNU_LIBC_VERSION"),
    reason="only glibc is told",
)


def _faults_and_returned(**variables: str) -> tuple[float, float]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    answer = subprocess.check_output(
        [sys.executable, "-c", PIECES], env=environment | variables, text=True
    )
    faults, returned = map(float, answer.split())
    return faults, returned


@glibc
def test_what_is_freed_is_used_again_and_given_back_at_the_end() -> None:
    kept, returned = _faults_and_returned()
    assert returned > 70
    # the user's own settings stay: here every piece comes from the system and goes back at once
    fetched, returned = _faults_and_returned(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept < fetched / 10
    assert returned < 70

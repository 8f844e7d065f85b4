"""Memory that a run frees stays with its process until the run is over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import forks

PIECES = """
import resource
import numpy as np
from phasewise.training.memory import release_memory, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():  # MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

def steps():
    for _ in range(5):
        pieces = [np.ones(8_000_000, np.uint8) for _ in range(10)]
        del pieces

keep_freed_memory()
steps()
start = faults()
steps()
print(faults() - start, end=" ")
held = resident()
release_memory()
print(held - resident())
"""

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr_names.get("CS_GNU_LIBC_VERSION"),
    reason="only glibc is told",
)


def _faults_and_returned(folder: Path, **variables: str) -> tuple[float, float]:
    (folder / "pieces.py").write_text(PIECES)
    ours = [it for it in os.environ if it.startswith(("MALLOC_", "GLIBC_"))]
    done = forks.training().run(["pieces.py"], folder, variables, without=ours)
    faults, returned = map(float, done.stdout.split())
    return faults, returned


@pytest.mark.slow
@glibc
def test_what_is_freed_is_used_again_and_given_back_at_the_end(tmp_path: Path) -> None:
    kept, returned = _faults_and_returned(tmp_path)
    assert returned > 70
    # the user's own settings stay: here every piece comes from the system and goes back at once
    fetched, returned = _faults_and_returned(tmp_path, MALLOC_MMAP_THRESHOLD_="65536")
    assert kept < fetched / 10
    assert returned < 70

"""The rooms that need no torch, and those that know no task, are tested without them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

REFUSE = """
import sys
import pytest

refused = set(sys.argv[1].split(","))


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is refused here", name=name)


sys.meta_path.insert(0, Refuse())
sys.exit(pytest.main(sys.argv[2:]))
"""
TORCH = ("torch", "torchvision", "torchmetrics", "lightning", "timm")
TASKS = ("multitask", "segmentation", "localization", "reid")

# What of them trains, or reads weights.
WITH_TORCH = (
    "tests/phasewise/records/test_checkpoints.py",
    "tests/phasewise/records/test_lock.py",
    "tests/phasewise/config/test_augment.py",
    "tests/phasewise/config/test_identity.py",
)
OF_TIMM = "not test_values_at_the_bounds and not resnet19"
"""Names of backbones are timm's, which imports torch."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refused", "folders"),
    [
        ((*TORCH, *TASKS), ("records", "analysis")),
        (TORCH, ("config",)),  # composed configs have a task's schema
    ],
    ids=["without torch and tasks", "without torch"],
)
def test_tests_of_a_room(refused: tuple[str, ...], folders: tuple[str, ...]) -> None:
    ignored = [f"--ignore={name}" for name in WITH_TORCH]
    places = [f"tests/phasewise/{name}" for name in folders]
    words = [*places, *ignored, "-m", "not slow", "-k", OF_TIMM, "-p", "no:xdist", "-p", "no:cov"]
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, ",".join(refused), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

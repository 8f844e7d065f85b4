"""Two CPU processes train together, by the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from phasewise.inference.evaluation.command import evaluate
from phasewise.inference.evaluation.settings import EvaluationSettings
from phasewise.records.history import read_history
from phasewise.study.overrides import merge
from tests.conftest import ROOT, TINY
from tests.localization.conftest import TINY_ANIMALS
from tests.reid.conftest import TINY_REID
from tests.segmentation.conftest import TINY_BEADS

pytestmark = pytest.mark.slow

# One test image, so that the second device has none; 16 training images, 4 a batch.
IMAGES = ["data.train_images=16", "data.val_images=5", "data.test_images=1"]
# 6 training identities of 6 images each, 8 a batch; a query and a gallery image for testing.
IDENTITIES = ["data.sampler=random", "data.test_identities=1", "data.cameras=2", "data.shots=1"]


@pytest.mark.parametrize(
    ("tiny", "words", "metric", "steps"),
    [
        (TINY_BEADS, [*IMAGES, "figures.images=1"], "jaccard", 2),
        (TINY_REID, [*IDENTITIES, "data.train_identities=14"], "mAP", 1),
        (TINY_ANIMALS, IMAGES, "IoU", 2),
    ],
    ids=["segmentation", "reid", "localization"],  # multitask: below
)
def test_two_devices_share_the_work_also_where_a_shard_is_empty(
    tiny: Sequence[str], words: Sequence[str], metric: str, steps: int, tmp_path: Path
) -> None:
    devices = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    command = [
        sys.executable,
        "train.py",
        *merge(tiny, words, devices),
        f"hydra.run.dir={tmp_path}",
    ]
    command += [f"data.cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "completed"
    assert 0 <= record["test"][f"test/{metric}"] <= 1
    (row,) = read_history(tmp_path)
    assert row["step"] == steps
    assert done.stdout.count("epoch 1/1") == 1
    assert "Warning" not in done.stderr
    assert_one_process_finds_the_same(tmp_path, metric)


def assert_one_process_finds_the_same(run: Path, metric: str) -> None:
    """In the five images of one split and in the one of the other."""
    record = json.loads((run / "record.json").read_text())
    for split in ("val", "test"):
        evaluate(
            *EvaluationSettings.parse(
                [f"checkpoint={run}", f"split={split}", "resamples=0", "figures=0"]
            ),
            run_of=None,
        )
        content = json.loads((run / "evaluation" / split / "evaluation.json").read_text())
        known = record["test" if split == "test" else "best"]
        # losses that are normalised over a batch are others when the batches are
        names = [name for name in known if "/loss" not in name and name.startswith(split)]
        found = {name: content["figures"][name]["value"] for name in names}
        assert found == pytest.approx({name: known[name] for name in names}, abs=1e-6)
        assert f"{split}/{metric}" in found


def test_a_sweep_over_two_devices_exists_once(tmp_path: Path) -> None:
    devices = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    command = [sys.executable, "train.py", "-m", *merge(TINY, IMAGES, devices), "seed=0,1"]
    command += ["test=true"]
    command += [f"hydra.sweep.dir={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
    assert [it["status"] for it in records] == ["completed"] * 2
    assert {it["seed"] for it in records} == {0, 1}
    assert [len(read_history(path.parent)) for path in tmp_path.glob("*/record.json")] == [1, 1]
    assert done.stdout.count("epoch 1/1") == 2
    assert len(list(tmp_path.glob("sweep.csv"))) == 1
    assert_one_process_finds_the_same(next(tmp_path.glob("*/record.json")).parent, "pixel_acc")

"""Two CPU processes train together, by the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from common.history import read_history
from tests.conftest import ROOT, TINY


def test_two_devices_share_the_work_also_where_a_shard_is_empty(tmp_path: Path) -> None:
    settings = [*TINY, "data.train_images=16", "data.val_images=5", "data.test_images=1"]
    devices = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    command = [sys.executable, "train.py", *settings, *devices, f"hydra.run.dir={tmp_path}"]
    command += [f"data.cache_dir={tmp_path / 'cache'}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "completed"
    assert record["test"]["test/pixel_acc"] > 0
    (row,) = read_history(tmp_path)
    assert row["step"] == 2  # 16 images in batches of 4, half of them on each device
    assert done.stdout.count("epoch 1/1") == 1
    assert "Warning" not in done.stderr

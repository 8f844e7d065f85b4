"""What tests of runs look at in a run directory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from phasewise.records.history import Row, read_history
from phasewise.records.record import RunRecord, read_record
from tests import forks
from tests.forks import Done

TRAIN = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from phasewise.training.run import train

train(OmegaConf.load(sys.argv[1]), Path(sys.argv[2]))
"""


def train_elsewhere(cfg: DictConfig, directory: Path, before: str = "", **environment: str) -> Done:
    """A run in a fresh process, after some code of one's own."""
    with tempfile.TemporaryDirectory() as folder:
        script, config = Path(folder, "script.py"), Path(folder, "config.yaml")
        script.write_text(before + TRAIN)
        OmegaConf.save(cfg, config, resolve=True)
        words = [str(it) for it in (script, config, directory)]
        return forks.training().run(words, Path.cwd(), environment)


def record_of(directory: Path) -> RunRecord:
    record = read_record(directory)
    assert record is not None
    return record


def timeless(directory: Path) -> list[Row]:
    """``metrics.csv`` but for the time it took."""
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in read_history(directory)
    ]


def weights(directory: Path, name: str = "last") -> dict[str, Tensor]:
    path = directory / "checkpoints" / f"{name}.ckpt"
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit, but for the time it took."""
    assert timeless(one) == timeless(other)
    for name in ("best", "last"):
        mine, theirs = weights(one, name), weights(other, name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    a, b = record_of(one).as_dict(), record_of(other).as_dict()
    for part in ("status", "fingerprint", "objective", "best", "last", "test", "baselines", "data"):
        assert a[part] == b[part], part

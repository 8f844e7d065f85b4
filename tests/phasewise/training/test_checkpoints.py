"""Starting from another run's weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from phasewise.config.fingerprint import fingerprint
from phasewise.errors import UserError
from phasewise.records.checkpoints import checkpoint_file
from phasewise.training.checkpoints import read_checkpoint, start_from
from phasewise.training.run import train
from tests.conftest import TINY

Make = Callable[..., DictConfig]


def write(path: Path, network: nn.Module, **model: object) -> Path:
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    content = {"state_dict": state | {"balance.x": torch.ones(1)}}
    torch.save(content | {"phasewise": {"config": {"model": model}}}, path)
    return path


def test_a_directory_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_file(tmp_path) == tmp_path / "checkpoints" / "best.ckpt"
    assert checkpoint_file(tmp_path / "a.ckpt") == tmp_path / "a.ckpt"


def test_the_network_gets_the_weights_and_nothing_else_does(tmp_path: Path) -> None:
    there, here = nn.Linear(3, 2), nn.Linear(3, 2)
    start_from(here, write(tmp_path / "a.ckpt", there), {})
    assert here.weight.equal(there.weight)
    assert here.bias.equal(there.bias)


def test_another_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    here = nn.Linear(3, 2)
    before = here.weight.clone()
    path = write(tmp_path / "a.ckpt", nn.Linear(4, 2), width=4, depth=1)
    with pytest.raises(UserError) as error:
        start_from(here, path, {"width": 3, "depth": 1})
    assert "1 of 2 tensors do not fit this network, e.g. weight" in str(error.value)
    assert "model.width=4 there, 3 here" in str(error.value)
    assert "depth" not in str(error.value)
    assert here.weight.equal(before)


def test_weights_that_change_while_a_run_begins_end_it(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_config(*TINY), tmp_path / "one")
    train(make_config(*TINY, "seed=1"), tmp_path / "other")
    one, other = (checkpoint_file(tmp_path / name) for name in ("one", "other"))
    cfg = make_config(*TINY, f"init_from={tmp_path / 'one'}")

    def late(*args: Any) -> None:
        shutil.copy(other, one)
        start_from(*args)

    monkeypatch.setattr("phasewise.training.session.start_from", late)
    with pytest.raises(UserError, match=r"init_from=.* changed while it was read"):
        train(cfg, tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_what_is_no_checkpoint_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.ckpt"
    if content is None:
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ckpt (cannot be read|is no checkpoint of phasewise)"):
        read_checkpoint(path)


@pytest.mark.slow
def test_a_run_starts_from_another_ones_best_weights(make_config: Make, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train(make_config(*TINY, "trainer.max_epochs=2"), first)
    # Steps so small that they change nothing but the statistics of batch norm.
    still = ("optimizer.lr=1e-30", "optimizer.weight_decay=0", "seed=5")
    train(make_config(*TINY, *still, f"init_from={first}"), second)
    theirs, ours = (read_checkpoint(path)["state_dict"] for path in (first, second))
    weights = [key for key in theirs if key.endswith("weight")]
    assert len(weights) > 20
    assert all(theirs[key].equal(ours[key]) for key in weights)
    with pytest.raises(UserError, match=r"model\.backbone=test_resnet there, resnet18 here"):
        train(make_config(*TINY, "model.backbone=resnet18", f"init_from={first}"), tmp_path / "x")


def test_the_fingerprint_goes_by_the_weights_not_by_their_place(
    make_config: Make, tmp_path: Path
) -> None:
    one = write(tmp_path / "one.ckpt", nn.Linear(3, 2))
    copy = shutil.copy(one, tmp_path / "copy.ckpt")
    other = write(tmp_path / "other.ckpt", nn.Linear(3, 2))
    prints = [fingerprint(make_config(f"init_from={path}")) for path in (one, copy, other)]
    assert prints[0] == prints[1] != prints[2]
    assert fingerprint(make_config()) not in prints

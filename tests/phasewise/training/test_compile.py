"""``trainer.compile``: a network that is compiled trains as it does otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.training.run import train
from tests.conftest import TINY
from tests.phasewise.training.directory import weights

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, *words)


def test_a_network_is_compiled_where_that_is_wanted(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, modes = nn.Module.compile, []

    def quickly(network: nn.Module, *, mode: str) -> None:
        """Traced and run as it stands: C++ would take half a minute."""
        modes.append(mode)
        plain(network, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", quickly)
    train(config(), tmp_path / "none")
    assert modes == []
    torch._dynamo.utils.counters.clear()
    train(config("trainer.compile=reduce-overhead"), tmp_path / "compiled")
    assert modes == ["reduce-overhead"]
    assert torch._dynamo.utils.counters["frames"]["ok"]
    names = [set(weights(tmp_path / place)) for place in ("none", "compiled")]
    assert names[0] == names[1]
    losses = [read_history(tmp_path / it)[0]["train/loss"] for it in ("none", "compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_network_that_cannot_be_compiled_is_told(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler\nand a long story")

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda net, mode: plain(net, backend=broken))
    with pytest.raises(
        UserError, match=r"^trainer\.compile=default does not work here \(no compiler\)"
    ):
        train(config("trainer.compile=default"), tmp_path)

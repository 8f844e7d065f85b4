"""Files of weights that a copy has left unfinished are known by their form, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from phasewise.records.checkpoints import cut_off

STATE = {"a": torch.arange(1000.0), "b": torch.ones(3, 5)}


def as_zip(path: Path) -> None:
    torch.save(STATE, path)


def as_older(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


def as_safetensors(path: Path) -> None:
    save_file(STATE, path, metadata={"format": "pt"})


@pytest.mark.parametrize("save", [as_zip, as_older, as_safetensors])
def test_whole_files_are_whole(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / ("w.safetensors" if save is as_safetensors else "w.pth")
    save(path)
    assert cut_off(path) is None


@pytest.mark.parametrize("kept", [3, 100, 0.5, -1])
@pytest.mark.parametrize("save", [as_zip, as_safetensors])
def test_a_part_of_one_is_not(tmp_path: Path, save: Callable[[Path], None], kept: float) -> None:
    path = tmp_path / ("w.safetensors" if save is as_safetensors else "w.pth")
    save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    reason = cut_off(path)
    assert reason is not None
    assert reason.endswith("kB are there: a copy of it broke off")


def test_an_empty_file_is_nothing_and_an_absent_one_is_not_judged(tmp_path: Path) -> None:
    assert cut_off(tmp_path / "w.pth") is None
    (tmp_path / "w.pth").touch()
    assert cut_off(tmp_path / "w.pth") == "the file is empty"
    (tmp_path / "w.safetensors").write_bytes(b"\x04" + bytes(7) + b"nope" + b"x" * 9)
    assert cut_off(tmp_path / "w.safetensors") is None  # no safetensors, which their reader says

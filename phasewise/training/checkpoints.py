"""Checkpoints of runs: how they are read, and how another run starts from one."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import lightning as L
import torch
from lightning.fabric.utilities.cloud_io import _load as load_checkpoint
from lightning.pytorch.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS
from torch import nn

from phasewise.errors import UserError
from phasewise.records.checkpoints import FOLDER, checkpoint_file, why_removed


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a run wrote, on the CPU; it cannot run code (``weights_only``).

    Raises:
        UserError: there is none, it cannot be read, or another program wrote it.
    """
    file = checkpoint_file(path)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever half a file may raise
        raise UserError(f"{file} cannot be read ({_reason(file, error)})") from error
    if not isinstance(content, dict) or "phasewise" not in content:
        raise UserError(f"{file} is no checkpoint of phasewise")
    return content


def _reason(file: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        run = file.parent.parent if file.parent.name == FOLDER else file.parent
        return why_removed(run) or "there is no such file"
    if file.is_file() and not is_zipfile(file):
        return "not a file that torch.save writes, or not the whole of it"
    if isinstance(error, UnpicklingError):
        return "it holds more than weights and settings, which could run code"
    return (str(error) or repr(error)).splitlines()[0][:120]


def start_from(network: nn.Module, path: str | Path, model: dict[str, Any]) -> None:
    """Give ``network`` the weights of another run of the same network.

    Args:
        network: the run's own, ``network`` of its module.
        path: the other run's directory or checkpoint.
        model: the run's ``model`` section, to say what differs.

    Raises:
        UserError: unreadable, or of another network.
    """
    content = read_checkpoint(path)
    prefix = "network."
    found = {
        key.removeprefix(prefix): value
        for key, value in content["state_dict"].items()
        if key.startswith(prefix)
    }
    wanted = network.state_dict()
    misfits = [k for k in wanted.keys() | found.keys() if _shape(wanted, k) != _shape(found, k)]
    if misfits:
        theirs = content["phasewise"]["config"].get("model", {})
        differing = [
            f"model.{key}={theirs.get(key)} there, {model.get(key)} here"
            for key in sorted(theirs.keys() | model.keys())
            if theirs.get(key) != model.get(key)
        ]
        raise UserError(
            f"init_from={path}: {len(misfits)} of {len(wanted)} tensors do not fit this network, "
            f"e.g. {min(misfits)}\n" + ("; ".join(differing) or "its data have other classes")
        )
    network.load_state_dict(found)


def _shape(state: dict[str, Any], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None


def kept_arguments(checkpoint: Any) -> dict[str, Any]:
    """What a checkpoint has kept of the arguments of its module, wherever Lightning looks."""
    try:
        content = load_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{checkpoint} holds more than weights and settings, which could run code; "
            "weights_only=False loads it, if you trust it"
        ) from error
    if hasattr(checkpoint, "seek"):
        checkpoint.seek(0)  # an open file, which is read again
    found: dict[str, Any] = {}
    for key in (*CHECKPOINT_PAST_HPARAMS_KEYS, L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY):
        found.update(content.get(key) or {})
    return found

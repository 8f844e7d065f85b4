"""How checkpoints get onto the disk, and what of them a run that is taken up again can use."""

from __future__ import annotations

import io
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from phasewise.errors import UserError
from phasewise.records.checkpoints import BEFORE, BEST, FOLDER, LAST
from phasewise.records.history import FILE, History
from phasewise.records.record import RECORD
from phasewise.storage import amount, check_room, remove_drafts, write_whole
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.memory import remove_leftovers
from phasewise.training.optim import states_per_weight

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, brings it to the disk, and replaces the target in one step.

    Lightning's own writes into TMPDIR and moves, which is a copy where that is another file system.

    Args:
        origin: what each checkpoint is to say of its run, under ``phasewise``; it may be filled
            until the first one is written.

    Raises:
        StorageError: the disk is full or fails; the file before is still there.
    """

    def __init__(self, origin: Mapping[str, Any]) -> None:
        super().__init__()
        self.origin = origin
        self._warned: set[str] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replace ``path``."""
        path = Path(path)
        checkpoint = {**checkpoint, "phasewise": dict(self.origin)}
        states = checkpoint.get("callbacks", {})
        for name in [name for name, state in states.items() if not _is_plain(state)]:
            del states[name]
            if name not in self._warned:
                log.warning(
                    "the state of %s is more than a checkpoint may hold (tensors, numbers, texts, "
                    "containers of them); a run that is continued begins without it",
                    name.partition("{")[0],
                )
            self._warned.add(name)
        before = path.with_name(BEFORE)
        # in memory first: of a full disk torch's own writer tells no more than that it failed
        content = io.BytesIO()
        torch.save(checkpoint, content)
        if path.stem == BEST and path.exists():
            before.unlink(missing_ok=True)
            with suppress(OSError):  # not every file system has links
                os.link(path, before)
        write_whole(path, content.getbuffer())
        if path.stem == LAST:
            before.unlink(missing_ok=True)


def _is_plain(state: Any) -> bool:
    """Whether a callback's state can be read again with ``weights_only``."""
    if isinstance(state, Mapping):
        return type(state) in (dict, OrderedDict) and all(
            _is_plain(part) for item in state.items() for part in item
        )
    if type(state) in (list, tuple, set):
        return all(map(_is_plain, state))
    kinds = (Tensor, torch.device, torch.dtype)
    return (
        state is None or type(state) in (bool, int, float, str, bytes) or isinstance(state, kinds)
    )


def prepare_resume(directory: Path, objective: Mapping[str, str], *, tidy: bool = True) -> int:
    """Put in order what an earlier call has left of a run, whose directory is held.

    Where it cannot go on from there, all of it is removed and said, and the run begins anew.

    Args:
        directory: of the run.
        objective: of its config.
        tidy: remove what is of no use; of several devices' processes only the first may.

    Returns:
        How many epochs are done.

    Raises:
        OSError: what is there may be whole, but cannot be read.
    """
    folder, history = directory / FOLDER, History(directory)
    best, last = (folder / f"{name}.ckpt" for name in (BEST, LAST))
    if tidy:
        remove_drafts(directory / RECORD, directory / FILE, best, last)
    done = 0
    if last.is_file():
        try:
            done = _epochs_of(last)
            _check_rows(history, done)
            _check_best(folder, history, objective, done)
        except UserError as error:
            log.warning("%s; this run begins anew", error)
            done = 0
    if tidy and not done:
        remove_leftovers(directory)
    return done


def _epochs_of(checkpoint: Path) -> int:
    """How many epochs had been trained when a checkpoint was written.

    Raises:
        UserError: it is damaged or gone.
        OSError: its disk fails, or reading it is not allowed: it may be whole.
    """
    with suppress(FileNotFoundError), checkpoint.open("rb") as file:
        while file.read(2**24):  # torch's reader does not tell a failing disk from damage
            pass
    epoch = read_checkpoint(checkpoint).get("epoch")
    if not isinstance(epoch, int):
        raise UserError(f"{checkpoint} does not say of which epoch it is")
    return epoch + 1


def _check_rows(history: History, done: int) -> None:
    history.cut(done)
    if [row["epoch"] for row in history.rows] != list(range(1, done + 1)):
        count = len(history.rows)
        raise UserError(f"{history.path} has {count} whole rows of {done} epochs that are done")


def _check_best(folder: Path, history: History, objective: Mapping[str, str], done: int) -> None:
    """Whether the best weights so far are there; a process may have died between the two files."""
    best, before = folder / f"{BEST}.ckpt", folder / BEFORE
    row = history.best_of(objective)
    if row is None:
        return
    epoch = _epochs_of(best)
    if epoch > done and before.is_file():
        os.replace(before, best)
        epoch = _epochs_of(best)
    before.unlink(missing_ok=True)
    if epoch <= done and epoch != row["epoch"]:
        raise UserError(f"{best} is of epoch {epoch}, and epoch {row['epoch']} was the best")


def check_room_for_checkpoints(
    directory: Path, module: nn.Module, optimizer: Mapping[str, Any], *, copies: int = 0
) -> None:
    """Refuse to train what could not be kept.

    Args:
        directory: of the run.
        module: whose weights are kept.
        optimizer: that section of the config.
        copies: further states of the network in a checkpoint to go on from.

    Raises:
        StorageError: the disk has not as much room.
    """
    weights = sum(tensor.nbytes for tensor in module.state_dict().values())
    trained = sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)
    best, last = weights, weights * (1 + copies) + states_per_weight(optimizer) * trained
    there = sum(path.stat().st_size for path in (directory / FOLDER).glob("*.ckpt"))
    needed = best + 2 * last - there  # twice: one is written beside the one before
    what = f"checkpoints of a network of {amount(weights)}"
    check_room(directory, needed, what, "a smaller model.backbone takes less")

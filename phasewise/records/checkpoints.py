"""Checkpoints of runs: where they lie, and which of them were removed to save room."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import BinaryIO

from phasewise.storage import amount, write_whole

FOLDER, BEST, LAST = "checkpoints", "best", "last"
"""Below a run's directory: ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``."""

BEFORE = f".{BEST}.ckpt.before"
"""The best weights before the newest ones, kept until ``last.ckpt`` knows of these."""

REMOVED = "removed.txt"
"""Beside them, where a study has removed them: why."""


def checkpoint_file(path: str | Path) -> Path:
    """The checkpoint that ``path`` names: itself, or the best one of a run's directory."""
    path = Path(path).expanduser()
    return path / FOLDER / f"{BEST}.ckpt" if path.is_dir() else path


def cut_off(path: Path) -> str | None:
    """Why a file of weights is not a whole one, by its form alone: a copy or a download broke off.

    ``torch.save`` writes ZIP files, whose index comes last; safetensors begin with theirs. What is
    neither (torch's older files) is not judged, and the numbers in it never are.

    Returns:
        The reason; None where nothing is missing, or the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            return "the file is empty"
        with path.open("rb") as file:
            start = file.read(8)
            whole = True
            if start[:2] == b"PK":
                whole = zipfile.is_zipfile(path)
            elif path.suffix == ".safetensors":
                whole = _ends_as_it_says(file, int.from_bytes(start, "little"), size)
    except OSError:
        return None
    return None if whole else f"only its first {amount(size)} are there: a copy of it broke off"


def _ends_as_it_says(file: BinaryIO, length: int, size: int) -> bool:
    """Of a safetensors file, whose index has ``length`` bytes and says where each tensor ends."""
    if 8 + length > size:
        return False
    try:
        index = json.loads(file.read(length))
        ends = [it["data_offsets"][1] for name, it in index.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0) <= size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return True  # another form: who reads it will say so


def has_weights(run: Path) -> bool:
    """Whether a run's directory holds a network."""
    return any((run / FOLDER / f"{name}.ckpt").is_file() for name in (BEST, LAST))


def remove_last(run: Path) -> None:
    """Remove what only an unfinished run needs; where no epoch was best it is all there is."""
    folder = run / FOLDER
    if (folder / f"{BEST}.ckpt").is_file():
        for name in (f"{LAST}.ckpt", BEFORE):
            (folder / name).unlink(missing_ok=True)


def remove_weights(run: Path, reason: str) -> None:
    """Remove a run's checkpoints, and say in their place why; other files there stay.

    Args:
        run: its directory.
        reason: for whoever looks for them: by what, and which setting keeps them.

    Raises:
        UserError: the folder cannot be written.
        StorageError: its disk is full or fails.
    """
    if not has_weights(run):
        return
    folder = run / FOLDER
    write_whole(folder / REMOVED, reason + "\n")  # first: a kill leaves no folder unexplained
    for name in (f"{LAST}.ckpt", BEFORE, f"{BEST}.ckpt"):
        (folder / name).unlink(missing_ok=True)


def why_removed(run: Path) -> str | None:
    """What `remove_weights` was told; None where the weights are there or were never removed."""
    if has_weights(run):
        return None
    try:
        return (run / FOLDER / REMOVED).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None

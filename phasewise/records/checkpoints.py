"""Checkpoints of runs: where they lie, and which of them were removed to save room."""

from __future__ import annotations

from pathlib import Path

from phasewise.storage import write_whole

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

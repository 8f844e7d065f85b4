"""Checkpoints of runs: where they lie."""

from __future__ import annotations

from pathlib import Path

FOLDER, BEST, LAST = "checkpoints", "best", "last"
"""Below a run's directory: ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``."""


def checkpoint_file(path: str | Path) -> Path:
    """The checkpoint that ``path`` names: itself, or the best one of a run's directory."""
    path = Path(path).expanduser()
    return path / FOLDER / f"{BEST}.ckpt" if path.is_dir() else path

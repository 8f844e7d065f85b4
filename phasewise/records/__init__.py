"""What a run leaves behind, the public contract: its record, its epochs, its lock, its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from phasewise.records.recorder import Recorder

__all__ = ["Recorder"]

__getattr__ = lazily(__name__, recorder=["Recorder"])

"""For Lightning scripts that are not of this project: ``RecordCallback``, one line in a Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from phasewise.training.record_callback import RecordCallback

__all__ = ["RecordCallback"]

__getattr__ = lazily("phasewise.training", record_callback=["RecordCallback"])

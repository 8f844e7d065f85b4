"""What a run says of its data and its network before it trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

from phasewise.config.arguments import left_out
from phasewise.data.listed import DataSummary
from phasewise.errors import Problem
from phasewise.report.text import listed
from phasewise.training.foreign import UNKNOWN
from phasewise.training.module import TaskModule

MOST_NOTES = 5
"""Of the data, that are shown."""

NAMED = 3
"""Files that a note names."""

log = logging.getLogger(__name__)


def log_data(
    found: DataSummary | None, data: L.LightningDataModule, section: Mapping[str, Any]
) -> None:
    """Counts, what was left out and what is odd; which keys bite on nothing.

    Args:
        found: what is known of them; None of those of a user's own.
        data: set up.
        section: ``data`` of the config.
    """
    if left := left_out(section):
        name = type(data).__name__
        log.info("data     %s takes none of data.%s", name, ", data.".join(left))
    if found is None:
        log.info(UNKNOWN, section["_target_"])
        return
    log.info("data     %s", ", ".join(f"{n} {split}" for split, n in found.counts.items()))
    if found.rejected:
        log.info("         %d samples left out, listed in record.json", len(found.rejected))
    notes = _grouped(found.warnings)
    for note in notes[:MOST_NOTES]:
        log.info("         note: %s", note)
    if len(notes) > MOST_NOTES:
        log.info("         and %d more notes in record.json", len(notes) - MOST_NOTES)


def _grouped(warnings: Sequence[Problem]) -> list[str]:
    """What is odd in the same way is one note."""
    files: dict[str, list[str]] = {}
    for warning in warnings:
        files.setdefault(warning.reason, []).append(warning.file)
    return [
        str(Problem(names[0], reason))
        if len(names) == 1
        else f"{len(names)} times: {reason} ({listed(names, NAMED)})"
        for reason, names in files.items()
    ]


def log_network(module: L.LightningModule, config: Mapping[str, Any]) -> int | None:
    """Its settings, its size and what an output sees.

    Returns:
        Its receptive field in pixels, see `TaskModule.receptive_field`.
    """
    count = sum(p.numel() for p in module.parameters())
    settings = config.get("model", {}) if isinstance(module, TaskModule) else {}
    model = ", ".join(f"{key} {value}" for key, value in settings.items())
    size = f"{count / 1e6:.2f} million parameters"
    field = module.receptive_field() if isinstance(module, TaskModule) else None
    if field:
        side = config["data"]["image_size"]
        seen = "the whole image" if field >= side else f"{field} of {side} pixels"
        size += f", receptive field {seen}"
    log.info("network  %s: %s", size, model or type(module).__name__)
    return field

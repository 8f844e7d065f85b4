"""What a report says of the data of a run: what they are, and numbers about each split."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from phasewise.data.datamodule import StoreDataModule
from phasewise.data.listed import Facts
from phasewise.errors import Problem, UserError
from phasewise.records.content import digest, write_json
from phasewise.records.record import to_json

FOLDER = "facts"
"""In ``data.cache_dir``: those that took a while."""

SLOW = 1.0
"""Seconds beyond which the facts of a split are kept for the next run."""

VERSION = 2
"""Raised when facts are computed otherwise, so that older ones are not read."""


def about(data: StoreDataModule) -> dict[str, Any]:
    """What a record says of data that have been set up, beside counts and hashes.

    Returns:
        ``name`` (of the folder, without its path, or of the embedded set), ``what`` (kind of data,
        in words), ``image_size``, ``resize``, ``classes``, ``split_rule`` and ``facts`` by split.
    """
    splits = data.splits
    return {
        "name": name_of(data),
        "what": data.WHAT,
        "image_size": data.image_size,
        "resize": data.resize,
        "classes": data.classes(),
        "split_rule": splits.rule,
        "facts": {split: known_facts(data, split) for split in splits.stores},
    }


def check_objective(
    data: StoreDataModule, facts: Facts, objective: str, metrics: Iterable[str]
) -> None:
    """See whether what a run is judged by can mean anything on its validation data.

    Args:
        data: set up.
        facts: of the validation split, as `about` has them.
        objective: name of the metric.
        metrics: those that it could be.

    Raises:
        UserError: it cannot; names those that can.
    """
    wrong = data.meaningless(facts)
    if objective in wrong:
        left = ", ".join(metric for metric in metrics if metric not in wrong)
        reason = f"means nothing on these data, for {wrong[objective]}; one of {left} does"
        raise UserError(problems=[Problem(f"objective.metric={objective}", reason)])


def name_of(data: StoreDataModule) -> str:
    """The folder, without its path; without one what is drawn."""
    if data.root is not None:
        return data.root.resolve().name
    return type(data).__name__.removesuffix("Data").lower()


def known_facts(data: StoreDataModule, split: str) -> Facts:
    """`StoreDataModule.facts` of a split in JSON's types, undefined ones left out; from the cache
    where they took long."""
    place = data.cache_dir / FOLDER / f"{_key(data, split)}.json"
    if (kept := _read(place)) is not None:
        return kept
    start = time.perf_counter()
    found: Facts = to_json(_defined(data.facts(split)))
    if time.perf_counter() - start > SLOW:
        write_json(place, found)
    return found


def _defined(facts: Mapping[str, Any]) -> dict[str, Any]:
    nested = {k: _defined(v) if isinstance(v, Mapping) else v for k, v in facts.items()}
    return {k: v for k, v in nested.items() if isinstance(v, dict) or math.isfinite(v)}


def _key(data: StoreDataModule, split: str) -> str:
    """What the facts of a split depend on: its samples, and how they are decoded."""
    listed = data.splits.listed
    parts = [listed[split]]
    if split == "train" and data.refit and "val" in listed:
        parts.append(listed["val"])
    return digest(
        [
            VERSION,
            f"{type(data).__module__}.{type(data).__qualname__}",
            data.image_size,
            data.splits.names.get(split, []),  # those that were not rejected
            *([part.hash, dict(part.key)] for part in parts),
        ]
    )


def _read(place: Path) -> Facts | None:
    try:
        content = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def original_sizes(samples: Sequence[Any]) -> Facts:
    """Of images whose headers were read: the medians of their sides in pixels.

    Args:
        samples: each with ``size``, width and height; tiles of one image count once each.
    """
    if not samples:
        return {}
    width, height = (round(median(sample.size[axis] for sample in samples)) for axis in (0, 1))
    return {"width of the files (median)": width, "height of the files (median)": height}

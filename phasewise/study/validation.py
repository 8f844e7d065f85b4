"""What is wrong with a journal or record whose outline is right, in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from phasewise.records.record import RECORD, SCHEMA, RunRecord, read_record
from phasewise.study.journal import Journal
from phasewise.study.results import settings_of

ERRORS = (HydraException, ValueError, TypeError, KeyError, AttributeError)
"""What content of another kind than expected raises."""


def journal_error(plan: Journal) -> str | None:
    """What keeps a journal from being used, ``None`` if it is sound."""
    try:
        for phase in plan.phases:
            if phase.objective["mode"] not in ("max", "min"):
                return f"damaged (mode {phase.objective['mode']!r})"
            settings_of([*phase.base, f"x={len(phase.objective['metric'])}"])
            for candidate in phase.candidates:
                settings_of(candidate.overrides)
                for trial in candidate.trials:
                    Path(trial.directory)
            for index in (phase.incumbent, phase.winner):
                if index is not None and not 0 <= index < len(phase.candidates):
                    return f"damaged (phase {phase.name!r} has no candidate {index})"
    except ERRORS as error:
        return f"damaged ({type(error).__name__})"
    return None


def record_error(record: RunRecord) -> str | None:
    """What keeps a record from being used, ``None`` if it is sound."""
    objective = record.objective
    if not isinstance(objective["metric"], str) or objective["mode"] not in ("max", "min"):
        return "has no objective"
    parts = {"objective": {key: objective[key] for key in ("value", "epoch")}, "cost": record.cost}
    parts |= {"best": record.best, "last": record.last, "test": record.test or {}}
    parts |= {f"baselines.{name}": scores for name, scores in record.baselines.items()}
    for name, values in parts.items():
        if not isinstance(values, Mapping) or not all(map(_is_number, values.values())):
            return f"has something else than numbers in {name!r}"
    try:
        settings_of(record.overrides)
    except ERRORS:
        return "has overrides that cannot be read"
    return None


def unreadable_record(directory: Path) -> str | None:
    """Why a directory has no usable record; ``None`` if it simply has none."""
    try:
        content = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except (ValueError, RecursionError):
        return "is damaged: no whole JSON"
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        return f"has schema {schema!r}; this version reads {SCHEMA}"
    if read_record(directory) is None:
        return "lacks what a record has"
    return "is of another configuration than planned"


def _is_number(value: Any) -> bool:
    """A finite number, or ``None``."""
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

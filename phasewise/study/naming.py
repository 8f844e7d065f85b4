"""The directory name of a trial, from the overrides that make it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

MAX_LENGTH = 120
"""Longest name, in characters; all are ASCII, and file systems allow 255 bytes."""

NO_OVERRIDES = "default"

_SAFE_KEY = re.compile(r"[\w.@+~-]+", re.ASCII)
_SAFE_TEXT = re.compile(r"[\w.+-]+", re.ASCII)
_UNSAFE = re.compile(r"[^\w.@+~=,(){}-]+", re.ASCII)
_DIGITS = 10


def trial_name(overrides: Sequence[str], lead: Container[str] = ()) -> str:
    """Name the directory of a trial by its parsed overrides.

    ``optimizer.lr=1e-3 model.activation=gelu`` is ``model.activation=gelu,optimizer.lr=0.001``:
    sorted by key, values as parsed. Lists are written ``(a,b)``, because square brackets are a
    pattern to every tool that globs. Names that say all stay as they are; where something had to be
    replaced or cut, ``~`` and a hash of the parsed overrides follow, so that two different lists of
    overrides never share a name.

    Args:
        overrides: Hydra's, one value each; the order of different keys does not count.
        lead: keys that stand first in a name that must be cut, so that trials which differ in them
            can be told apart; those that a sweep varies.

    Raises:
        hydra.errors.OverrideParseException: if one is not in Hydra's grammar.
        ValueError: if one still sweeps over several values.
    """
    parsed = parse_overrides(overrides)
    # by key alone: of two overrides of one key, the later one counts
    parsed.sort(key=lambda override: override.key_or_group)
    if not parsed:
        return NO_OVERRIDES
    safe = _safe_text(parsed)
    if all(_says_all(override) for override in parsed) and len(safe) <= MAX_LENGTH:
        return safe
    if len(safe) > MAX_LENGTH:
        safe = _safe_text(sorted(parsed, key=lambda override: override.key_or_group not in lead))
    identity = json.dumps([[o.get_key_element(), *_tagged_value(o)] for o in parsed])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGITS]
    return f"{safe[: MAX_LENGTH - _DIGITS - 1].rstrip(',')}~{digest}"


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse the overrides of one trial.

    Raises:
        hydra.errors.OverrideParseException: if one is not in Hydra's grammar.
        ValueError: if one sweeps over several values.
    """
    parsed = [parse_override(word) for word in overrides]
    for override in parsed:
        if override.is_sweep_override():
            raise ValueError(f"{override.input_line} is a sweep, not one trial's override")
    return parsed


@lru_cache(maxsize=4096)
def parse_override(word: str) -> Override:
    """One word, with one value or several.

    Remembered: trials share most of their words, and Hydra's grammar is slow to read.

    Raises:
        hydra.errors.OverrideParseException: it is not in Hydra's grammar.
    """
    return OverridesParser.create().parse_overrides([word])[0]


def _safe_text(overrides: Sequence[Override]) -> str:
    return _UNSAFE.sub("_", ",".join(map(_text, overrides)))


def _text(override: Override) -> str:
    key = override.get_key_element()
    if override.value_type is None:  # ~key
        return key
    return f"{key}={_value_text(override.value())}"


def _value_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"({','.join(map(_value_text, value))})"
    if isinstance(value, dict):
        items = sorted(f"{_value_text(key)}={_value_text(item)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    return str(value)


def _says_all(override: Override) -> bool:
    """Whether key and value can be read back from their text."""
    key = override.get_key_element()
    return _SAFE_KEY.fullmatch(key) is not None and _is_readable(override.value())


def _is_readable(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_readable, value))
    if isinstance(value, dict):
        return all(_is_readable(part) for item in value.items() for part in item)
    if isinstance(value, str):
        return _SAFE_TEXT.fullmatch(value) is not None and not _looks_like_another_type(value)
    return True


def _looks_like_another_type(text: str) -> bool:
    """Whether a quoted string, e.g. ``'1'``, would be mistaken for a number, a bool or null."""
    if text in {"null", "true", "false"}:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tagged_value(override: Override) -> list[Any]:
    return [] if override.value_type is None else [_tagged(override.value())]


def _tagged(value: Any) -> Any:
    """A form whose JSON is the same for equal values of one type, and for nothing else."""
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        items = [[_tagged(key), _tagged(item)] for key, item in value.items()]
        return {"dict": sorted(items, key=json.dumps)}
    return value

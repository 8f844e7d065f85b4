"""Sections of a config that only a study's file has, where no default says what their keys are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from phasewise.config.fields import Node, wrong
from phasewise.config.help import did_you_mean
from phasewise.text import format_value


class Written(Node):
    """A section that only a study's file has, so that no default says what its keys are."""

    EXAMPLE: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def is_a_mapping(cls, value: Any) -> Any:
        """Of keys that there are."""
        if not isinstance(value, dict):
            raise wrong(f"must be a mapping, e.g. {cls.EXAMPLE}")
        return checked_keys(cls, value)


def checked_keys(kind: type[Node], values: dict[Any, Any]) -> dict[Any, Any]:
    """Says which keys a section has where one is unknown."""
    known = [one.alias or name for name, one in kind.model_fields.items()]
    for key, value in values.items():
        if key not in known:
            near = did_you_mean(key, known)
            there = near or f"; it has {', '.join(known)}"
            if value is None and not near:  # {overrides: a=1,2} has a key 2
                text = "no such key; within braces, a text with a comma stands in quotes"
                raise wrong(text, key=str(key))
            is_override = isinstance(key, str) and re.search("[./=]", key)
            typed = f"; overrides are a text, as after -m: {as_typed({key: value})}"
            raise wrong(f"no such key{typed if is_override else there}", key=str(key))
    return values


def as_typed(values: Mapping[Any, Any]) -> str:
    """What one types for keys that somebody wrote as YAML's."""
    texts = {
        key: ",".join(map(format_value, value)) if isinstance(value, list) else format_value(value)
        for key, value in values.items()
    }
    return " ".join(f"{key}={text}" for key, text in texts.items())

"""What ``record.json`` holds, and how it and a study's journal are checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NotRequired, TypeVar, get_args

from typing_extensions import TypedDict

from phasewise.records.notes import Notes

SCHEMA = 1
_UNION = ("float", "int", "bool")
"""Members of `Number`, which pydantic names as if they were keys."""

T = TypeVar("T")

Status = Literal[
    "completed", "failed", "out_of_memory", "diverged", "interrupted", "paused", "running"
]
STATUSES: frozenset[str] = frozenset(get_args(Status))
FINAL: frozenset[str] = STATUSES - {"interrupted", "paused", "running"}
"""A run that ended like this would end like this again; the others can go on."""

Number = float | int | None
Metrics = dict[str, Number]


class Objective(TypedDict):
    """What a run is judged by; other keys are kept."""

    metric: str
    mode: Literal["max", "min"]
    value: Number
    epoch: Number


Objective.__pydantic_config__ = {"extra": "allow"}  # type: ignore[attr-defined]


class Resampled(TypedDict, total=False):
    """See `phasewise.records.record.RunRecord`; all of it or nothing."""

    metric: str
    unit: str
    count: int
    values: list[Number]


class Content(TypedDict):
    """The file; see `phasewise.records.record.RunRecord`."""

    schema: Literal[1]
    status: Status
    error: str | None
    task: str
    fingerprint: str
    overrides: list[str]
    seed: int | None
    objective: Objective
    best: Metrics
    last: Metrics
    test: Metrics | None
    baselines: dict[str, Metrics]
    cost: dict[str, Number | bool]
    data: dict[str, Any]
    environment: dict[str, Any]
    study: NotRequired[dict[str, Any]]  # which earlier versions did not write
    headline: NotRequired[list[str]]
    notes: NotRequired[Notes]
    resampled: NotRequired[Resampled]
    checkpoints: NotRequired[dict[str, str]]


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # takes a while, which `--help` has not

    return TypeAdapter(kind)


def validate(kind: type[T], content: bytes | Mapping[str, Any]) -> T:
    """Content as its types say: JSON to the letter, or what was read from it.

    Raises:
        ValueError: what is wrong, where, and what is allowed, in one line; a wrong value before one
            that is missing.
    """
    from pydantic import ValidationError

    check: Any = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
    try:
        read = isinstance(content, bytes)
        return check.validate_json(content, strict=True) if read else check.validate_python(content)
    except ValidationError as error:
        wrong = min(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
        place = "".join(f"{part}." for part in wrong["loc"] if part not in _UNION)[:-1]
        text, value = wrong["msg"].removeprefix("Value error, "), wrong["input"]
        if place and isinstance(value, str | int | float):
            text += f", not {value!r:.40}"
        raise ValueError(f"{place}: {text}" if place else text) from None

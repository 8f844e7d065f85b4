"""Several networks as one: what they must have in common, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phasewise.errors import UserError
from phasewise.inference.restore import Restored
from phasewise.training.module import TaskModule


def check_alike(members: Sequence[Restored], what: str = "an ensemble") -> None:
    """Refuse networks that do not see the same images; their classes are compared with the data's.

    Args:
        members: that are to be one.
        what: they are to be, for the message.

    Raises:
        UserError: they do; with what differs.
    """
    first, *others = members
    for other in others:
        for setting, here, there in (
            ("data.image_size", first.image_size, other.image_size),
            ("data.resize", first.resize, other.resize),
            ("evaluation", _evaluation(first), _evaluation(other)),
            ("kind", type(first.module).__name__, type(other.module).__name__),
        ):
            if here != there:
                raise UserError(
                    f"checkpoint: {what} is scored on the same images in the same way, but "
                    f"{setting} of {first.checkpoint} is {here}, that of {other.checkpoint} {there}"
                )


def _evaluation(member: Restored) -> Mapping[str, Any]:
    return dict(member.config.get("evaluation") or {})


def joined(modules: Sequence[TaskModule]) -> TaskModule:
    """The first of several networks, ready to speak for all."""
    first = modules[0]
    if len(modules) > 1:
        first.join(modules)
    return first


def described(members: Sequence[Restored]) -> list[dict[str, str | None]]:
    """For ``evaluation.json``: each network's checkpoint, and what its run computed."""
    return [
        {
            "checkpoint": str(member.checkpoint),
            "identity": None if member.record is None else member.record.identity,
        }
        for member in members
    ]

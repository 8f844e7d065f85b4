"""Parts of somebody's own, which a mapping with ``_target_`` brings in the place of a part's name:
what they return, and whether a checkpoint may name them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from phasewise.config.signatures import targets_of
from phasewise.errors import UserError
from phasewise.project import project_class

BUILT_LATER = ("optimizer", "scheduler")
"""Arguments of a module that nothing is built of before training."""


def returned(
    value: Any, shape: Sequence[int], meaning: str, *, by: nn.Module, where: str
) -> Tensor:
    """What a part of somebody's own has returned, which may be anything.

    Args:
        value: what it returned.
        shape: that it must have.
        meaning: of the shape, e.g. ``logits (B, C, S, S)``, for the message.
        by: the part.
        where: its key, for the message.

    Raises:
        UserError: it is no tensor of that shape.
    """
    if isinstance(value, Tensor) and tuple(value.shape) == tuple(shape):
        return value
    found = type(value).__name__
    if isinstance(value, Tensor):
        found = f"tensor of the shape {tuple(value.shape)}"
    wanted = f"{meaning}, here {tuple(shape)}" if shape else meaning
    raise UserError(f"{where}: {type(by).__name__} returned a {found}; wanted is {wanted}")


def refuse_foreign(origin: Any, arguments: Mapping[str, Any], named: Collection[str] = ()) -> None:
    """A checkpoint may hold the name of code, but not choose what code is run.

    Args:
        origin: the checkpoint, for the message.
        arguments: of a module, as the checkpoint has kept them.
        named: those that the caller gives instead.

    Raises:
        UserError: an argument names a part that is none of this project's.
    """
    foreign = {}
    for keyword, value in sorted(arguments.items()):
        if keyword in named or keyword in BUILT_LATER:
            continue
        for _, target in targets_of({keyword: value}):
            if project_class(target, nn.Module) is None:
                foreign[keyword] = target
    if foreign:
        names = ", ".join(f"{keyword}={target}" for keyword, target in foreign.items())
        given = ", ".join(f"{keyword}=..." for keyword in foreign)
        raise UserError(
            f"{origin} names code from outside of this project ({names}), which a checkpoint alone "
            f"does not run; if you trust it, give it yourself: load_from_checkpoint(path, {given})"
        )

"""Parts of somebody's own: a mapping with ``_target_`` in the place of a part's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from phasewise.config.signatures import targets_of
from phasewise.config.targets import make
from phasewise.errors import UserError
from phasewise.project import project_class

BUILT_LATER = ("optimizer", "scheduler")
"""Arguments of a module that nothing is built of before training."""


def build_part(node: Mapping[str, Any], *args: Any) -> nn.Module:
    """Call what ``_target_`` names.

    Args:
        node: ``_target_``, a class or function by its full name, and its keyword arguments.
        args: given to it before those.

    Raises:
        UserError: it cannot be imported, does not take these arguments, or makes no
            ``torch.nn.Module``; in one line.
    """
    name = node.get("_target_")
    if not isinstance(name, str):
        raise UserError(f"{dict(node)} has no _target_, the full name of a class or function")
    try:
        part = make(node, *args)
    except UserError:
        raise
    except Exception as error:  # whatever its maker may raise
        raise UserError(f"_target_={name}: {_reason(error)}") from error
    if not isinstance(part, nn.Module):
        kind = type(part).__name__
        raise UserError(f"_target_={name} makes a {kind}; it must make a torch.nn.Module")
    return part


def _reason(error: BaseException) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text or type(error).__name__


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

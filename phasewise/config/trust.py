"""Which code a checkpoint may name: what this project ships, and what a person has named.

A checkpoint may come from a stranger. It can hold the name of code, but not choose what is run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from phasewise.config.signatures import TargetError, find_object, targets_of
from phasewise.errors import UserError
from phasewise.project import project_class

Base = TypeVar("Base")

BUILT_LATER = ("optimizer", "scheduler")
"""Arguments of a module that nothing is built of before training."""


def is_trusted(target: Any, trust: Collection[str]) -> bool:
    """Whether a person has named a class or function, or a package or module that it is in."""
    return any(target == name or str(target).startswith(f"{name}.") for name in trust)


def known_class(name: Any, base: type[Base], trust: Collection[str] = ()) -> type[Base] | None:
    """The subclass of ``base`` of that name, if it is this project's or a person has named it.

    Raises:
        UserError: it is trusted and cannot be imported.
    """
    if (found := project_class(name, base)) is not None or not is_trusted(name, trust):
        return found
    try:
        made = find_object(str(name))
    except TargetError as error:
        raise UserError(f"{name}: {error}") from error
    return made if isinstance(made, type) and issubclass(made, base) else None


def untrusted(node: Any, base: type, trust: Collection[str] = ()) -> dict[str, Any]:
    """The names of code in nested plain containers that neither the project ships, as subclasses of
    ``base``, nor a person has named; by dotted key."""
    return {
        key: target
        for key, target in targets_of(node)
        if not is_trusted(target, trust) and project_class(target, base) is None
    }


def refuse_foreign(
    origin: Any, arguments: Mapping[str, Any], base: type, named: Collection[str] = ()
) -> None:
    """See whether a module or a DataModule may be made of what a checkpoint has kept.

    Args:
        origin: the checkpoint, for the message.
        arguments: as the checkpoint has kept them.
        base: what its parts may be, if they are this project's.
        named: those that the caller gives instead.

    Raises:
        UserError: an argument names a part that is none of this project's.
    """
    kept = {key: it for key, it in arguments.items() if key not in (*named, *BUILT_LATER)}
    if foreign := untrusted(kept, base):
        keywords = dict.fromkeys(key.partition(".")[0] for key in sorted(foreign))
        raise UserError(
            f"{origin} names code from outside of this project ({_listed(foreign)}), which a "
            "checkpoint alone does not run; if you trust it, give it yourself: load_from_checkpoint"
            f"(path, {', '.join(f'{keyword}=...' for keyword in keywords)})"
        )


def refuse_untrusted(origin: Any, foreign: Mapping[str, Any]) -> None:
    """Say which word makes a script run the code that a checkpoint names.

    Args:
        origin: the checkpoint.
        foreign: see `untrusted`.

    Raises:
        UserError: there is any.
    """
    if foreign:
        packages = dict.fromkeys(str(target).partition(".")[0] for target in foreign.values())
        raise UserError(
            f"{origin} names code from outside of this project ({_listed(foreign)}), which a "
            f"checkpoint alone does not run; if you trust it: trust=[{','.join(packages)}]"
        )


def _listed(foreign: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={target}" for key, target in sorted(foreign.items()))

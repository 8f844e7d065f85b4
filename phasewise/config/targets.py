"""Parts that a config names by `_target_`: checked against what they take, and built.

Imports no torch. A part of a user's own is imported to be checked only where the person at the
keyboard has named it (`CONTEXT`): a config that comes with a checkpoint has nothing imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from inspect import Parameter
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic import WrapValidator as _Wrap
from pydantic_core import InitErrorDetails

from phasewise.config.fields import wrong
from phasewise.config.help import KEY, did_you_mean, not_one_of
from phasewise.config.signatures import (
    TARGET,
    TargetError,
    find_object,
    signature_of,
    targets_of,
)
from phasewise.config.trust import is_trusted
from phasewise.errors import UserError

HYDRA_KEYS = (TARGET, "_partial_", "_recursive_", "_convert_", "_args_")
"""Keys of such a mapping that are Hydra's and no arguments."""

CONTEXT = {"imports": True}
"""Pydantic's context under which targets are checked, and their packages imported for it."""

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def build(
    node: Mapping[str, Any], *args: Any, where: str, kind: type | None = None, **supplied: Any
) -> Any:
    """What a mapping with `_target_` describes.

    Args:
        node: of plain containers.
        args: positional arguments that come before its own.
        where: its key in the config, for messages.
        kind: what it must make an instance of; None: anything.
        supplied: arguments by name that the mapping may give itself.

    Raises:
        UserError: it cannot be imported, raises when it is made, or makes something else.
    """
    target = node.get(TARGET)
    if not isinstance(target, str):
        raise UserError(f"{where}: {dict(node)} has no {TARGET}, the full name of its class")
    try:
        find_object(target)
        made = _instantiate(node, *args, **supplied)
    except TargetError as error:
        raise UserError(f"{where}: {error}") from error
    except UserError:
        raise
    except Exception as error:  # whatever its maker may raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"{where}: {target} raised {type(error).__name__}: {reason}") from error
    if kind is not None and not isinstance(made, kind):
        wanted = f"{kind.__module__.partition('.')[0]} {kind.__name__}"
        raise UserError(f"{where}: {target} makes a {type(made).__name__}, which is no {wanted}")
    return made


def _instantiate(node: Mapping[str, Any], *args: Any, **supplied: Any) -> Any:
    """Hydra's `instantiate`, with plain containers: an optimizer that keeps one of OmegaConf's
    could not be read from a checkpoint. What the maker raises is raised, without Hydra's wrapping.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    try:
        return instantiate({"_convert_": "all", **supplied, **node}, *args)
    except HydraException as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None  # `from error` would close a circle


def accepted(target: str, supplied: Collection[str]) -> set[str]:
    """Those of the arguments ``supplied`` that ``target`` takes; all where it takes any."""
    parameters = signature_of(target).parameters.values()
    if any(it.kind is Parameter.VAR_KEYWORD for it in parameters):
        return set()  # it may pass them on to something that does not know them
    return {it.name for it in parameters} & set(supplied)


def check_target(
    node: Mapping[str, Any],
    *,
    positional: int = 0,
    supplied: Collection[str] = (),
    beside: Collection[str] = (),
) -> None:
    """Compare a mapping with the signature of what its `_target_` names.

    Args:
        node: of plain containers.
        positional: how many arguments come before its own, see `build`.
        supplied: arguments that need not be given.
        beside: keys of the mapping that are no arguments.

    Raises:
        ValidationError: pydantic's, with all that is wrong; validators may let it pass.
    """
    errors = [*_errors(node, positional, supplied, beside)]
    if errors:
        raise ValidationError.from_exception_data("target", errors)


def _errors(
    node: Mapping[str, Any], positional: int, supplied: Collection[str], beside: Collection[str]
) -> Iterator[InitErrorDetails]:
    target = node.get(TARGET)
    try:
        parameters = dict(signature_of(str(target)).parameters)
    except TargetError as error:
        yield _error((TARGET,), target, str(error))
        return
    kinds = {it.kind for it in parameters.values()}
    first = [it.name for it in parameters.values() if it.kind in POSITIONAL]
    given = first[: positional + len(node.get("_args_", ()))]
    named = {
        it.name
        for it in parameters.values()
        if it.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    } - {*given}
    for key, value in node.items():
        if key in HYDRA_KEYS or key in beside:
            continue
        if key not in named and Parameter.VAR_KEYWORD not in kinds:
            near = did_you_mean(key, named)
            rest = f"; it takes {_list(named)}; ~{KEY} leaves it out"
            yield _error((str(key),), value, f"{target} takes no such argument{near or rest}")
        yield from _inner((str(key),), value)
    for key in sorted(named - {*node} - {*supplied}):
        parameter = parameters[key]
        if parameter.default is Parameter.empty:
            yield InitErrorDetails(type="missing", loc=(key,), input=node)


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _inner(loc: tuple[str, ...], value: Any) -> Iterator[InitErrorDetails]:
    """What is wrong with parts that are arguments of a part."""
    if isinstance(value, Mapping) and TARGET in value:
        for error in _errors(value, 0, (), ()):
            yield InitErrorDetails(
                type=error["type"], loc=(*loc, *error.get("loc", ())), input=error["input"]
            )


def _error(loc: tuple[str, ...], value: Any, text: str) -> InitErrorDetails:
    return InitErrorDetails(type=wrong(text), loc=loc, input=value)


class ForeignPart(BaseModel):
    """A section whose `_target_` is no part of this project, and takes the other keys.

    A subclass says what comes from elsewhere.

    Attributes:
        needed: the method without which it is not what the section wants, and what that is; empty:
            anything that makes one will do.
    """

    needed: ClassVar[tuple[str, str]] = ("", "")

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_")

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """The other arguments of `check_target`."""
        return {}

    @classmethod
    def arguments(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """The keys that count."""
        return dict(node)

    @model_validator(mode="before")
    @classmethod
    def fits(cls, node: Any, info: ValidationInfo) -> Any:
        """Arguments that it takes, and all that it needs."""
        if isinstance(node, dict) and (info.context or {}).get("imports"):
            method, kind = cls.needed
            if method and not _has(str(node.get(TARGET)), method):
                raise wrong(f"is no {kind}", TARGET)
            check_target(cls.arguments(node), **cls.comes_with(node))
        return node


def own_part(
    *names: str, positional: int = 0, supplied: Collection[str] = (), of_data: bool = False
) -> Any:
    """A key that chooses a part by name, or brings one's own as a mapping with `_target_`.

    ::

        head: Annotated[str | dict[str, Any], own_part("unet", "fcn", supplied=("channels",))]

    A network that is restored from a checkpoint has a context that says which names are trusted;
    another part of somebody's own is refused: see `phasewise.inference.restore`.

    Args:
        names: those that the project ships.
        positional, supplied: what it is built with besides its own keys, see `build`.
        of_data: a network that is restored is built without it, so it is not looked at then.
    """
    example = "{_target_: mypackage.Class, ...}"

    def validate(value: Any, handler: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict) and TARGET in value:
            context = info.context or {}
            if not context.get("imports"):
                if of_data:
                    return value
                trust = context.get("trust", ())
                if not all(is_trusted(target, trust) for _, target in targets_of(value)):
                    raise wrong("a part of one's own is built only where a person names it")
            check_target(value, positional=positional, supplied=supplied)
            return value
        if isinstance(value, dict):
            raise wrong("a part of one's own needs _target_, the full name of its class")
        if value not in names:
            known = f"{not_one_of(value, names)}; or " if names else "must be "
            raise wrong(f"{known}{example}")
        return value

    return _Wrap(validate)


def _has(target: str, method: str) -> bool:
    """Whether a target that can be found is a class with that method; `check_target` tells of one
    that cannot."""
    try:
        found = find_object(target)
    except TargetError:
        return True
    return isinstance(found, type) and hasattr(found, method)

"""The parts of a config that are of a user's own, or may be: what is checked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_args

from pydantic import Field, WrapValidator

from phasewise.config.fields import Node, wrong
from phasewise.config.help import KEY
from phasewise.config.signatures import TARGET, TargetError, is_foreign, signature_of
from phasewise.config.targets import ForeignPart


class Callbacks(ForeignPart):
    """A callback; one that writes files has a folder of its own in the run's directory."""

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """See `phasewise.training.callbacks.build_callbacks`."""
        return {"supplied": ("dirpath",)}


class Loggers(ForeignPart):
    """A logger beside TensorBoard and metrics.csv; it writes into the run's directory."""

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """See `phasewise.training.logs.build_loggers`."""
        ours = str(node.get(TARGET)).startswith("phasewise.")
        return {"supplied": ("task", "directory") if ours else ("save_dir",)}


def named_parts(what: str, example: str) -> WrapValidator:
    """Parts by names of one's own, each a mapping with a `_target_`."""

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        if not isinstance(value, dict):
            raise wrong(f"{what} have names, e.g. {example}")
        for name, node in value.items():
            if not isinstance(node, dict) or not isinstance(node.get(TARGET), str):
                reason = f"a class must be given: {KEY}.{TARGET}=mypackage.Class"
                raise wrong(reason, key=str(name))
        return handler(value)

    return WrapValidator(validate)


Target = TypeVar("Target", bound=str)
"""A `Literal`: the full name of a task's LightningModule."""


class Module(Node, Generic[Target]):
    """The LightningModule of a task."""

    target: Target = Field(alias="_target_")


class ForeignModule(ForeignPart):
    """A LightningModule of a user's own; what it lacks `phasewise.config.schema` says."""

    needed = ("training_step", "LightningModule")

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """See `phasewise.config.arguments.available_arguments`."""
        try:
            return {"supplied": {*signature_of(str(node.get(TARGET))).parameters}}
        except TargetError:  # which `check_target` tells
            return {}


def comes_from_elsewhere(schema: type[Node], field: str | None, target: Any) -> bool:
    """Whether a part is neither of this project nor one that the schema names, which may be a
    user's own."""
    annotation = schema.model_fields[str(field)].annotation
    return is_foreign(target) and not _names(annotation, target)


def _names(annotation: Any, target: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Node):
        named = annotation.model_fields.get("target")
        return named is not None and target in get_args(named.annotation)
    return any(_names(part, target) for part in get_args(annotation))

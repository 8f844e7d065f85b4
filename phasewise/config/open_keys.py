"""Keys that a person may type though no file has them: arguments of Lightning and of own parts.

They must be written with ``++`` for Hydra, which otherwise takes only keys that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.types import Override

from phasewise.config.signatures import (
    TARGET,
    TargetError,
    foreign_targets,
    is_foreign,
    trainer_arguments,
)

SEVERAL = ("callbacks", "logger")
"""Sections of parts by names of one's own."""


class OpenKeys:
    """The keys that may be added to a config.

    Args:
        data: the config as plain containers.
        overrides: of the command line; they may name parts that it has not.
    """

    def __init__(self, data: Mapping[Any, Any], overrides: Iterable[Override]) -> None:
        self.targets = foreign_targets(data)
        for override in overrides:
            key, value = override.key_or_group, override.value()
            if isinstance(value, dict):
                self.targets |= foreign_targets(value, key)
            elif key.endswith(f".{TARGET}"):
                values: list[Any] = [value]
                if override.is_sweep_override() and not override.is_interval_sweep():
                    values = list(override.sweep_iterator())
                own = [str(it) for it in values if is_foreign(it)]
                self.targets |= {key.removesuffix(f".{TARGET}"): it for it in own}

    def has(self, key: str) -> bool:
        """Whether it is an argument of something, as far as its name tells."""
        section, *below = key.split(".")
        if section in SEVERAL and below:
            return True
        if section == "trainer" and below and below[0] in self.trainer():
            return True
        inside = any(key.startswith(f"{part}.") for part in self.targets)
        return inside or (bool(below) and key.endswith(f".{TARGET}"))

    @staticmethod
    def trainer() -> list[str]:
        """Lightning's own names below ``trainer``; none where it is not installed."""
        try:
            return list(trainer_arguments())
        except TargetError:
            return []

    def without_use(self, key: str, data: Mapping[Any, Any]) -> str | None:
        """Why a key that the config has does nothing, if it does not: it is of a schedule whose
        place a class of one's own takes."""
        target = self.targets.get("scheduler")
        if target is None or not key.startswith("scheduler."):
            return None
        from phasewise.config.optim_schema import foreign_schedule  # pydantic takes a while

        name = key.removeprefix("scheduler.")
        node = {**data["scheduler"], TARGET: target}
        if name not in node or name in foreign_schedule(node):
            return None
        return f"belongs to scheduler={node['name']}, whose place {target} takes"

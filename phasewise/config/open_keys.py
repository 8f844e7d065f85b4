"""Keys that a person may type though no file has them: arguments of Lightning and of own parts.

They must be written with ``++`` for Hydra, which otherwise takes only keys that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from phasewise.config.arguments import OF_THE_RUN
from phasewise.config.help import did_you_mean
from phasewise.config.override_syntax import parse_words
from phasewise.config.signatures import (
    TARGET,
    TargetError,
    foreign_targets,
    is_foreign,
    signature_of,
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
        self.data = data
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

    def without_use(self, key: str) -> str | None:
        """Why a key that the config has does nothing, if it does not: it is of a schedule whose
        place a class of one's own takes."""
        if key.startswith("data.") and "data" in self.targets:
            return self._left_out(key)
        target = self.targets.get("scheduler")
        if target is None or not key.startswith("scheduler."):
            return None
        from phasewise.config.optim_schema import foreign_schedule  # pydantic takes a while

        name = key.removeprefix("scheduler.")
        node = {**self.data["scheduler"], TARGET: target}
        if name not in node or name in foreign_schedule(node):
            return None
        return f"belongs to scheduler={node['name']}, whose place {target} takes"

    def _left_out(self, key: str) -> str | None:
        """Foreign data are not given what they do not take."""
        target, name = self.targets["data"], key.split(".")[1]
        if name == TARGET or name not in self.data["data"]:
            return None
        try:
            taken = signature_of(target).parameters
        except TargetError:  # which is told where the class is checked
            return None
        module = self.targets.get("task.module", self.data["task"]["module"][TARGET])
        if name in taken or name in OF_THE_RUN or name in signature_of(module).parameters:
            return None
        return f"{target} takes no such argument{did_you_mean(name, taken)}"


def open_words(lines: Sequence[Sequence[str]], data: Mapping[Any, Any]) -> list[list[str]]:
    """Words of a study's phases as a command line has them: with ``++`` before keys that may be
    added and that neither the config has nor a choice that is made in the same line.

    Args:
        lines: of all phases; a part that one names is known to the others.
        data: the config as plain containers.
    """
    parsed = [parse_words(line)[0] for line in lines]
    may_add = OpenKeys(data, [override for found in parsed for override in found.values()])
    return [
        [_opened(word, found, may_add) for word in line]
        for line, found in zip(lines, parsed, strict=True)
    ]


def _opened(word: str, line: Mapping[str, Override], may_add: OpenKeys) -> str:
    override = line.get(word)  # None: is told where the words are read
    if override is None or word.startswith(("+", "~")):
        return word
    key = override.key_or_group
    chosen = {f"{it.key_or_group}.{it.value()}" for it in line.values()}
    if has_key(may_add.data, key) or any(key.startswith(f"{part}.") for part in chosen):
        return word
    return f"++{word}" if may_add.has(key) else word


def has_key(node: Any, key: str) -> bool:
    """Whether a dotted key leads anywhere in a plain container."""
    for part in key.split("."):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return False
    return True

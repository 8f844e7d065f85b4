"""What Hydra saved beside a run: its config, and how that was composed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

HYDRA_FOLDER = ".hydra"
MULTIRUN = "multirun.yaml"
"""In the directory of a study or sweep: the config of the last call as a whole, as typed."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # thirty times as quick, where it exists
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_MOST_REFERENCES = 8
"""One that leads in a circle must not be followed for ever."""


class SavedConfig:
    """The files in ``.hydra`` of a run directory, each read once and only if it is asked for."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.yaml``, as composed, with interpolations; empty if it cannot be read."""
        return read_yaml(self.directory / HYDRA_FOLDER / "config.yaml")

    @cached_property
    def choices(self) -> Mapping[str, Any]:
        """The choice of each config group."""
        found = self.hydra_value("runtime.choices")
        return found if isinstance(found, Mapping) else {}

    @property
    def is_of_project(self) -> bool:
        """Whether this project's scripts ran it, as far as its config tells."""
        return not self.config or isinstance(look_up(self.config, "task"), Mapping)

    def sources(self, provider: str) -> list[str]:
        """Folders that the config came from: ``main``, ``command-line`` (``--config-dir``)."""
        found = self.hydra_value("runtime.config_sources")
        named = [one for one in found or [] if isinstance(one, Mapping)]
        return [str(one.get("path")) for one in named if one.get("provider") == provider]

    def hydra_value(self, key: str) -> Any:
        """A value of ``hydra.yaml``, Hydra's own settings; ``None`` if it is not there."""
        return look_up(self._hydra, f"hydra.{key}")

    def get(self, key: str, default: Any = None) -> Any:
        """What the run had for a key; for a config group (``scheduler``) the choice."""
        value = look_up(self.config, key, default)
        for _ in range(_MOST_REFERENCES):
            reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                break
            value = look_up(self.config, reference[1], value)
        if isinstance(value, Mapping) or value is default:
            return self.choices.get(key, value)
        return value

    @cached_property
    def _hydra(self) -> Mapping[str, Any]:
        return read_yaml(self.directory / HYDRA_FOLDER / "hydra.yaml")


def read_yaml(path: Path) -> Mapping[str, Any]:
    """What a file holds; nothing if it cannot be read, or is no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _LOADER)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, Mapping) else {}


def look_up(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value of a dotted key in nested mappings."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node

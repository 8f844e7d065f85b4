"""The whole config of a run, and the same as a preset that a command line can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.study.saved_config import SavedConfig

AROUND = ("hydra", "study", "budget")
"""Sections that say nothing of a single run."""

PRESET = "preset"
"""The config group of recipes."""

NOT_CHOSEN = (PRESET, "study", "debug")
"""Groups whose choice is no part of a run: what they set stands in the other sections."""


def complete_config(saved: SavedConfig) -> dict[str, Any]:
    """All that a run was made from, interpolations resolved; empty where it has left no config."""
    config = {key: value for key, value in saved.config.items() if key not in AROUND}
    try:
        plain = OmegaConf.to_container(OmegaConf.create(dict(saved.config)), resolve=True)
    except OmegaConfBaseException:  # what only Hydra knows, as in `${hydra:...}`
        return config
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key in config}


def chosen_groups(saved: SavedConfig) -> dict[str, Any]:
    """The choice of each config group that is part of the run."""
    return {
        group: choice
        for group, choice in saved.choices.items()
        if choice is not None and "/" not in group and group.partition("@")[0] not in NOT_CHOSEN
    }


def is_preset(saved: SavedConfig) -> bool:
    """Whether the application has the group that `recipe` is for."""
    return PRESET in saved.choices


def recipe(saved: SavedConfig, title: str) -> str:
    """The config in YAML; where the application knows presets, as one of them.

    It chooses the groups anew, so that nothing of another choice is left, and sets every key.

    Args:
        saved: of the run.
        title: what it is, for the first line.
    """
    config = OmegaConf.to_yaml(OmegaConf.create(complete_config(saved)))
    comment = f"# {' '.join(title.split())}\n"
    if not is_preset(saved):
        return comment + config
    chosen = [{f"override /{group}": choice} for group, choice in chosen_groups(saved).items()]
    head = OmegaConf.to_yaml(OmegaConf.create({"defaults": chosen})) if chosen else ""
    return f"# @package _global_\n{comment}{head}{config}"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flatten(value, f"{name}.")
        else:
            found[name] = value
    return found

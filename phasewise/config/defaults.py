"""Defaults of the config files, for configs that are older than some of the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import hydra

from phasewise.config.command_line import CommandLine
from phasewise.config.fingerprint import plain_config
from phasewise.config.help import choice_and_task
from phasewise.project import CONF, HYDRA_VERSION

ONE_OF_SEVERAL = ("optimizer", "scheduler")
"""Sections whose keys belong to the choice that was made, which another one's would spoil."""


def composed(words: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """The config of a single run by overrides, and the keys that they set, groups apart.

    Raises:
        UserError: what is wrong with the words.
    """
    with hydra.initialize_config_dir(str(CONF), "defaults", version_base=HYDRA_VERSION):
        line = CommandLine(words, CONF, "config")
        cfg, _ = line.compose(False)
        groups = set(cfg.hydra.runtime.choices)
    keys = {str(override.key_or_group) for override in line.overrides.values()} - groups
    plain = plain_config(cfg)
    return {str(key): value for key, value in plain.items()}, keys


def data_choice(config: Mapping[str, Any]) -> str | None:
    """What one types after ``data=`` for a saved config; None if there is no such data set here."""
    data = config.get("data")
    target = str(data.get("_target_")) if isinstance(data, Mapping) else ""
    found = choice_and_task(target, CONF)
    return found[0] if found is not None and found[1] == config["task"]["name"] else None


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config with the defaults of the keys that it lacks.

    A config of a task or of data that are not there is returned as it is.
    """
    task, choice = config["task"]["name"], data_choice(config)
    if not any(file.stem == task for file in (CONF / "task").glob("*.yaml")):
        return dict(config)
    defaults, _ = composed([f"task={task}", *([] if choice is None else [f"data={choice}"])])
    found = deepcopy(dict(config))
    if choice is None and not _same_class(defaults.get("data"), found.get("data")):
        return found
    for section, values in defaults.items():
        own = found.setdefault(section, values)
        if isinstance(own, dict) and isinstance(values, dict) and section not in ONE_OF_SEVERAL:
            found[section] = values | own
    return found


def _same_class(one: Any, other: Any) -> bool:
    """Whether two data sections are of one class: a task's file may hold its only data set."""
    sections = isinstance(one, dict) and isinstance(other, dict)
    return sections and one.get("_target_") == other.get("_target_")

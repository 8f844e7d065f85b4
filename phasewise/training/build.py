"""From a run's config to its module: which section says which keyword argument."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_class

from phasewise.training.module import TaskModule

AROUND = {"model", "data", "optimizer", "scheduler", "task", "objective", "early_stopping"} | {
    *("trainer", "callbacks", "logger", "figures", "study", "debug", "hydra")
}
"""Sections of a config that concern the run, or that `offered` knows by name."""


def offered(config: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a config and its data have for a module.

    ``model.KEY`` is ``KEY``; ``loss.KEY`` is ``loss_KEY``, and ``loss.name`` is ``loss``, likewise
    of the other sections of a task. ``optimizer`` and ``scheduler`` are given as a whole, the
    objective as ``monitor`` and ``mode``.

    Args:
        config: of a run, as plain containers.
        info: what the data say of themselves, see `StoreDataModule.describe`, or what a checkpoint
            has kept of it.
    """
    found = {**config.get("data", {}), **config.get("model", {})}
    for section, content in config.items():
        if section in AROUND or not isinstance(content, Mapping):
            continue
        for key, value in content.items():
            found[section if key == "name" else f"{section}_{key}"] = value
    objective = config.get("objective", {})
    found |= {"optimizer": config.get("optimizer"), "scheduler": config.get("scheduler")}
    found |= {"monitor": objective.get("metric"), "mode": objective.get("mode")}
    if "class_names" in info:
        found["num_classes"] = len(info["class_names"])
    return {**found, **info}


def module_arguments(
    kind: type[Any], config: Mapping[str, Any], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of `offered` that a class of module takes by name.

    Args:
        kind: the class.
        config, info: see `offered`.
    """
    there = offered(config, info)
    return {name: there[name] for name in inspect.signature(kind).parameters if name in there}


def build_module(config: Mapping[str, Any], info: Mapping[str, Any]) -> TaskModule:
    """The module of a run.

    Args:
        config, info: see `offered`.
    """
    kind: type[TaskModule] = get_class(config["task"]["module"]["_target_"])
    return kind(**module_arguments(kind, config, info))

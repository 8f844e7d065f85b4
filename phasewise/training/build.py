"""From a run's config to its module: which section says which keyword argument."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning as L
from hydra.utils import get_class

from phasewise.data.datamodule import StoreDataModule

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


def build_module(config: Mapping[str, Any], info: Mapping[str, Any]) -> L.LightningModule:
    """The module of a run.

    A foreign one gets the arguments that stand beside its ``_target_``, and of `offered` those that
    it takes by name.

    Args:
        config, info: see `offered`.
    """
    own = {key: value for key, value in config["task"]["module"].items() if key != "_target_"}
    kind: type[L.LightningModule] = get_class(config["task"]["module"]["_target_"])
    return kind(**{**module_arguments(kind, config, info), **own})


def build_data(config: Mapping[str, Any]) -> L.LightningDataModule:
    """The DataModule of a run.

    A foreign one gets the keys of ``data`` that it takes by name; which those are was checked when
    the config was.

    Args:
        config: of a run, as plain containers.
    """
    section = {"seed": config["seed"], **config["data"]}
    kind: type[L.LightningDataModule] = get_class(section.pop("_target_"))
    if not issubclass(kind, StoreDataModule):
        section = {k: v for k, v in section.items() if k in inspect.signature(kind).parameters}
    return kind(**section)

"""From a run's config to its module and its data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning as L
from hydra.utils import get_class

from phasewise.config.arguments import data_arguments, offered


def module_arguments(
    kind: type[Any], config: Mapping[str, Any], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of `offered` that a class of module takes by name.

    Args:
        kind: the class.
        config, info: see `phasewise.config.arguments.offered`.
    """
    there = offered(config, info)
    return {name: there[name] for name in inspect.signature(kind).parameters if name in there}


def build_module(config: Mapping[str, Any], info: Mapping[str, Any]) -> L.LightningModule:
    """The module of a run.

    A foreign one gets the arguments that stand beside its ``_target_``, and of `offered` those that
    it takes by name.

    Args:
        config, info: see `phasewise.config.arguments.offered`.
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
    kind: type[L.LightningDataModule] = get_class(config["data"]["_target_"])
    return kind(**data_arguments(config["data"], config["seed"]))

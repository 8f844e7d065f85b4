"""From a run's config to its module and its data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning as L
from hydra.utils import get_class

from phasewise.config.arguments import available_arguments, data_arguments


def module_arguments(
    kind: type[Any], config: Mapping[str, Any], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of `available_arguments` that a class of module takes, and what stands beside its name.

    Args:
        kind: the class.
        config, info: see `phasewise.config.arguments.available_arguments`.
    """
    there = available_arguments(config, info)
    taken = {name: there[name] for name in inspect.signature(kind).parameters if name in there}
    own = {key: it for key, it in config["task"]["module"].items() if key != "_target_"}
    return taken | own


def build_module(config: Mapping[str, Any], info: Mapping[str, Any]) -> L.LightningModule:
    """The module of a run, which may be anybody's.

    Args:
        config, info: see `phasewise.config.arguments.available_arguments`.
    """
    kind: type[L.LightningModule] = get_class(config["task"]["module"]["_target_"])
    return kind(**module_arguments(kind, config, info))


def build_data(config: Mapping[str, Any]) -> L.LightningDataModule:
    """The DataModule of a run.

    A foreign one gets the keys of ``data`` that it takes by name; which those are was checked when
    the config was.

    Args:
        config: of a run, as plain containers.
    """
    kind: type[L.LightningDataModule] = get_class(config["data"]["_target_"])
    return kind(**data_arguments(config["data"], config["seed"]))

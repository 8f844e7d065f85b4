"""Which section of a config says which keyword argument of a module or a DataModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phasewise.config.signatures import TARGET, is_foreign, signature_of

WHOLE = ("optimizer", "scheduler", "finetuning")
"""Sections that are one argument each."""

AROUND = {"model", "data", *WHOLE, "task", "objective", "early_stopping"} | {
    *("trainer", "callbacks", "logger", "figures", "study", "debug", "hydra")
}
"""Sections of a config that concern the run, or that `available_arguments` knows by name."""


def available_arguments(config: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a config and its data have for a module.

    ``model.KEY`` is ``KEY``; ``loss.KEY`` is ``loss_KEY``, and ``loss.name`` is ``loss``, likewise
    of the other sections of a task. Those of `WHOLE` are given as a whole, the objective as
    ``monitor`` and ``mode``.

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
    found |= {name: config.get(name) for name in WHOLE}
    found |= {"monitor": objective.get("metric"), "mode": objective.get("mode")}
    if "class_names" in info:
        found["num_classes"] = len(info["class_names"])
    return {**found, **info}


OF_THE_RUN = ("_target_", "cache_dir", "batch_size", "check")
"""Keys of ``data`` that concern the run too."""


def left_out(section: Mapping[str, Any]) -> list[str]:
    """Keys of ``data`` that a foreign class is not given, since it does not take them."""
    if not is_foreign(section[TARGET]):
        return []
    taken = signature_of(section[TARGET]).parameters
    return [key for key in section if key not in taken and key not in OF_THE_RUN]


def data_arguments(section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The keyword arguments of a DataModule.

    Args:
        section: ``data`` of a config. Of a foreign class it may hold keys of ours that it does not
            take; they are left out.
        seed: the config's; a foreign class gets it if it takes it.
    """
    found = {"seed": seed, **{key: it for key, it in section.items() if key != TARGET}}
    if not is_foreign(section[TARGET]):
        return found
    taken = signature_of(section[TARGET]).parameters
    return {key: value for key, value in found.items() if key in taken}

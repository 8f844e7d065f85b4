"""The data that a network is evaluated on: those of its run, changed by the words of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml

from phasewise.config.defaults import composed, data_choice
from phasewise.config.help import settings_error
from phasewise.config.schema import DataConfig
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import Problem
from phasewise.inference.restore import problems_of_config
from phasewise.project import CONF, project_class

OF_THE_MACHINE = ("cache_dir", "ram_limit_mb", "download")
"""Keys of ``data`` that a checkpoint, perhaps a stranger's, has no say in."""

FIXED = {
    "image_size": "the network is built for the size that it was trained with",
    "augment": "images are not augmented in an evaluation",
}


def with_data(config: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A run's config with the data to evaluate on.

    Args:
        config: of the checkpoint.
        words: overrides, ``data=NAME`` and ``data.KEY=VALUE``. With another data set, what belongs
            to the data set itself starts from its defaults; the rest stays as it was in training.

    Raises:
        UserError: what is wrong with the words, or with the config that they make.
    """
    there, known = dict(config["data"]), data_choice(config)
    choice = next((w.partition("=")[2] for w in words if w.startswith("data=")), known)
    own = set() if choice == known else _own_keys(str(choice))
    named = [] if choice is None else [f"data={choice}"]
    typed = [word for word in words if not word.startswith("data=")]
    made, keys = composed([f"task={config['task']['name']}", *named, *typed])
    data, given = made["data"], {key.split(".")[1] for key in keys if key.startswith("data.")}
    for key in given & FIXED.keys():
        raise settings_error([Problem(f"data.{key}", FIXED[key])])
    for key in data.keys() & there.keys() - given - own - set(OF_THE_MACHINE):
        data[key] = there[key]
    changed = deepcopy(dict(config)) | {"data": data}
    if problems := problems_of_config(changed):
        raise settings_error(problems)
    return changed


def _own_keys(choice: str) -> set[str]:
    """The keys of a data set that others have not, or mean otherwise."""
    file = CONF / "data" / f"{choice}.yaml"
    keys = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return set(keys) - set(DataConfig.model_fields)


def open_data(config: Mapping[str, Any]) -> StoreDataModule:
    """The data of a checked config, not yet read."""
    data = dict(config["data"])
    kind = project_class(data.pop("_target_"), StoreDataModule)  # type: ignore[type-abstract]
    assert kind is not None  # the schema has seen to it
    return kind(**data, seed=config["seed"])

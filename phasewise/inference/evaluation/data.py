"""The data that a network is evaluated on: those of its run, changed by the words of a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml

from phasewise.config.arguments import data_arguments
from phasewise.config.choices import file_for
from phasewise.config.defaults import composed, data_choice
from phasewise.config.help import flatten, no_such_key, settings_error
from phasewise.config.override_syntax import parse_words, syntax_problem
from phasewise.config.schema import DataConfig
from phasewise.config.trust import known_class, refuse_untrusted, untrusted
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import Problem, UserError
from phasewise.inference.restore import problems_of_config
from phasewise.project import CONF

OF_THE_MACHINE = ("cache_dir", "ram_limit_mb", "download")
"""Keys of ``data`` that a checkpoint, perhaps a stranger's, has no say in."""

FIXED = {
    "image_size": "the network is built for the size that it was trained with",
    "augment": "images are not augmented in an evaluation",
}


def with_data(
    config: Mapping[str, Any], words: Sequence[str], trust: Collection[str] = ()
) -> dict[str, Any]:
    """A run's config with the data to evaluate on.

    Args:
        config: of the checkpoint.
        words: overrides, ``data=NAME`` and ``data.KEY=VALUE``. With another data set, what belongs
            to the data set itself starts from its defaults; the rest stays as it was in training.
        trust: see `phasewise.inference.restore.restore`.

    Raises:
        UserError: what is wrong with the words, or with the config that they make.
    """
    chosen = next((w.partition("=")[2] for w in words if w.startswith("data=")), None)
    known = data_choice(config)
    typed = [word for word in words if not word.startswith("data=")]
    if chosen is None and known is None:
        data, given = _own_data(config["data"], typed)
    else:
        data, given = _chosen_data(config, chosen or str(known), known, typed)
    for key in given & FIXED.keys():
        raise settings_error([Problem(f"data.{key}", FIXED[key])])
    changed = deepcopy(dict(config)) | {"data": data}
    if problems := problems_of_config(changed, trust):
        raise settings_error(problems)
    return changed


def _chosen_data(
    config: Mapping[str, Any], choice: str, known: str | None, typed: Sequence[str]
) -> tuple[dict[str, Any], set[str]]:
    """The section of a data set that has a file, and the keys that were typed."""
    there = config["data"]
    own = set() if choice == known else _own_keys(choice, config["task"]["name"])
    made, keys = composed([f"task={config['task']['name']}", f"data={choice}", *typed])
    data, given = made["data"], {key.split(".")[1] for key in keys if key.startswith("data.")}
    for key in data.keys() & there.keys() - given - own - set(OF_THE_MACHINE):
        data[key] = there[key]
    return data, given


def _own_data(there: Mapping[str, Any], typed: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """The section that a user's own file made, with the values that were typed."""
    data, given = deepcopy(dict(there)), set[str]()
    common = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["data"]
    data |= {key: common.get(key, False) for key in OF_THE_MACHINE if key in data}
    overrides, unread = parse_words(typed)
    for word, error in unread.items():
        raise settings_error([Problem(word, syntax_problem(word, error))])
    for override in overrides.values():
        section, *keys = override.key_or_group.split(".")
        node: Any = data
        for key in keys[:-1]:
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict) or not keys or keys[-1] not in node:
            raise settings_error([no_such_key(override.key_or_group, flatten(data, section))])
        node[keys[-1]] = override.value()
        given.add(keys[0])
    return data, given


def _own_keys(choice: str, task: str) -> set[str]:
    """The keys of a data set that others have not, or mean otherwise."""
    file = file_for(CONF / "data" / f"{choice}.yaml", task)
    keys = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return set(keys) - set(DataConfig.model_fields)


def open_data(
    config: Mapping[str, Any], origin: Any = "the config", trust: Collection[str] = ()
) -> StoreDataModule:
    """The data of a checked config, not yet read.

    Args:
        config: see `with_data`.
        origin: the checkpoint, for messages.
        trust: see `phasewise.inference.restore.restore`.

    Raises:
        UserError: they are of code from elsewhere that nobody trusts, or no `StoreDataModule`.
    """
    data = {key: value for key, value in config["data"].items() if key != "augment"}
    refuse_untrusted(origin, untrusted({"data": data}, object, trust))
    kind = known_class(data["_target_"], StoreDataModule, trust)  # type: ignore[type-abstract]
    if kind is None:
        raise UserError(f"{origin}: its data._target_={data['_target_']} is no StoreDataModule")
    return kind(**data_arguments(data | {"augment": []}, config["seed"]))

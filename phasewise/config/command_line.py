"""The overrides of a command line: what is wrong with each, and how Hydra wants them.

Hydra stops at the first mistake and reports it in its own words; here every word is judged, with
the allowed values and the nearest match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from phasewise.config.choices import file_for, not_for_task, preset_not_for_task
from phasewise.config.help import (
    choice_file,
    file_entries,
    flatten,
    given_twice,
    nearest,
    nearest_key,
    no_such_key,
    not_one_of,
    settings_error,
)
from phasewise.config.open_keys import SEVERAL, OpenKeys, has_key
from phasewise.config.override_syntax import parse_words, suggest_correction, syntax_problem
from phasewise.errors import Problem, UserError
from phasewise.project import install_command
from phasewise.text import format_value

ONE_AT_A_TIME = "study"
"""The config group that cannot be swept: each choice of it is a sweep."""

EXTRAS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=ray": "ray",
    "hydra/sweeper=optuna": "optuna",
}
"""What pip installs with the project so that Hydra has these choices."""

SWEEPER = "hydra/sweeper"
SEARCHPATH = "hydra.searchpath"

AROUND_RUNS = ("study.", "budget=", "init_study=")
"""How words begin that say something of a sweep or study and nothing of a single run."""


def one_line(error: Exception) -> str:
    """The first lines of an error of Hydra and of its cause; the others are for programmers."""
    errors = [error, *([error.__cause__] if error.__cause__ else [])]
    lines = [str(it).strip().partition("\n")[0].rstrip(".:") for it in errors]
    return ": ".join(line for line in lines if line)


def not_yaml(error: MarkedYAMLError) -> str:
    """What is wrong with a file, and where."""
    mark, problem = error.problem_mark, str(error.problem)
    place = "" if mark is None else f"{mark.name}, line {mark.line + 1}: "
    if found := re.match("found duplicate key (.+)", problem):
        return f"{place}the key {found[1]} stands there twice"
    if "\\t" in problem:
        return f"{place}a tab; YAML is indented with spaces"
    if "mapping values" in problem:
        return f"{place}a colon too many; a text that has one is put in quotes"
    return f"{place}{problem}"


class CommandLine:
    """The overrides of one command line, checked word by word before Hydra sees them together.

    Hydra stops at the first mistake; here all are collected. Needs an initialised Hydra.

    Args:
        words: the overrides as typed.
        config_dir: the folder of the primary config.
        config_name: the primary config.
        extra: overrides of our own, not checked.
    """

    def __init__(
        self, words: Sequence[str], config_dir: Path, config_name: str, extra: Sequence[str] = ()
    ) -> None:
        instance = GlobalHydra.instance().hydra
        assert instance is not None
        self.loader: ConfigLoader = instance.config_loader
        self.words = list(words)
        self.config_dir = config_dir
        self.config_name = config_name
        self.extra = list(extra)
        self.problems: dict[str, Problem] = {}
        self.path = [word for word in self.words if word.startswith(f"{SEARCHPATH}=")]
        self.opened: dict[str, str] = {}
        self.overrides, self.unread = parse_words(self.words, self.loader)

    def compose(self, multirun: bool) -> tuple[DictConfig, bool]:
        """The composed config with its ``hydra`` node, and whether it is a sweep.

        Swept keys keep their defaults in it, swept groups take their first choice.

        Raises:
            UserError: everything that is wrong with the words.
        """
        if twice := given_twice(self.words):
            raise settings_error(twice)
        if self.unread and (problem := suggest_correction(self.words, self.loader)):
            raise settings_error([problem])
        options = {word: self._options(override) for word, override in self.overrides.items()}
        groups = {word: allowed for word, allowed in options.items() if allowed}
        choices = [self._choose(word, allowed) for word, allowed in groups.items()]
        base = self._compose([*(choice for choice in choices if choice), *self.path])
        typed = [word for word in self.words if word.startswith("hydra.mode=")]
        asked = typed[-1].endswith("=MULTIRUN") if typed else base.hydra.mode == RunMode.MULTIRUN
        sweep = multirun or asked
        values = {word: it for word, it in self.overrides.items() if word not in groups}
        study = base.hydra.runtime.choices.get(ONE_AT_A_TIME)
        if study and not sweep and not typed:
            reason = "its file has no `hydra: {mode: MULTIRUN}`, or not below `# @package _global_`"
            self.problems["study"] = Problem(f"study={study}", f"{reason} as first line")
            raise settings_error([*self.problems.values()])
        if all(choices):  # else keys of a choice that is not known would be called unknown
            self._check_keys(values, base, groups)
        for word, override in self.overrides.items():
            if override.is_sweep_override() and not sweep and word not in self.problems:
                reason = "several values need -m; a list is [a,b], a comma in a text 'KEY=\"a,b\"'"
                self.problems[word] = Problem(word, reason)
            elif word.startswith(AROUND_RUNS) and not sweep:
                self.problems[word] = Problem(word, "is for -m or study=NAME, not for a single run")
            elif sweep and override.key_or_group == SWEEPER and _forgets_phases(base):
                self.problems[word] = Problem(word, "knows no phases; it is for -m without study=")
        for word, error in self.unread.items():
            self.problems[word] = Problem(word, self._unread(word, error, base))
        if self.problems:
            raise settings_error(
                [self.problems[word] for word in self.words if word in self.problems]
            )
        fixed = [word for word, override in values.items() if not override.is_sweep_override()]
        fixed = [self.opened.get(word, word) for word in fixed]
        self.words = [self.opened.get(word, word) for word in self.words]
        self.overrides, _ = parse_words(self.words, self.loader)
        return (self._compose([*map(str, choices), *fixed]) if fixed else base), sweep

    def launched(self) -> list[str]:
        """The words of a sweep in the form that Hydra can compose before it expands them.

        It starts from the swept groups' default choices, which may lack a key of the others:
        ``optimizer=sgd,rmsprop optimizer.momentum=0.5``. Such a value becomes a choice of one.
        """
        swept = {o.key_or_group for o in self.overrides.values() if o.is_sweep_override()}
        if not swept:
            return self.words
        fixed = [word for word, o in self.overrides.items() if self._options(o)]
        fixed = [word for word in fixed if self.overrides[word].key_or_group not in swept]
        data = OmegaConf.to_container(self._compose(fixed), resolve=False)
        return [self._as_choice(word, data) for word in self.words]

    def _as_choice(self, word: str, data: Any) -> str:
        override = self.overrides[word]
        key, value = override.key_or_group, override.value_type
        plain = value is not None and not override.is_sweep_override()
        if not plain or not key or self._options(override) or has_key(data, key):
            return word
        if override.is_add() or override.is_force_add() or override.is_delete():
            return word
        name, _, text = word.partition("=")
        return f"{name}=choice({text})"

    def _options(self, override: Override) -> list[str]:
        """Choices of a config group; nothing where the key is no group."""
        key = override.key_or_group
        return [] if not key or "." in key else self._choices(key)

    def _choices(self, group: str) -> list[str]:
        """Of a config group, on the whole search path."""
        options: list[str] = self.loader.get_group_options(
            group, config_name=self.config_name, overrides=[*self.path, *self.extra]
        )
        return options

    def _choose(self, word: str, options: Sequence[str]) -> str | None:
        """The override that composes the (first) choice of a group, or of the nearest one."""
        override = self.overrides[word]
        group = override.key_or_group
        if override.is_delete() or override.is_interval_sweep():
            return word
        swept = override.is_sweep_override()
        if swept and group == ONE_AT_A_TIME:
            self.problems[word] = Problem(word, "one study at a time")
            return None
        values = (
            list(override.sweep_iterator(format_value))
            if swept
            else [format_value(override.value())]
        )
        if isinstance(chosen := override.value(), list) and group in SEVERAL:
            values = [str(choice) for choice in chosen]  # all of them at once
        if values == ["null"] and group.startswith("hydra/"):
            return word
        if not values:
            self.problems[word] = Problem(word, f"matches none of {', '.join(options)}")
            return None
        for value in values:
            if value not in options:
                extra = EXTRAS.get(f"{group}={value}")
                reason = not_one_of(value, options)
                if extra:
                    reason = f"not installed; {install_command(extra)} brings it"
                self.problems[word] = Problem(f"{group}={value}", reason)
                near = None if extra else nearest(value, options)
                return f"{group}={near}" if near else None
            if hidden := self._hidden(group, str(value)):
                self.problems[word] = Problem(f"{group}={value}", hidden)
        return f"{group}={values[0]}" if swept else word

    def _hidden(self, group: str, choice: str) -> str:
        """Says so where several folders have a choice: Hydra takes the first in silence."""
        files = [folder / group / f"{choice}.yaml" for folder in self._folders()]
        first, *others = dict.fromkeys(it.resolve() for it in files if it.is_file()) or [None]
        return f"{first} would be taken, not {others[0]}; give that another name" if others else ""

    def _check_keys(
        self, values: dict[str, Override], base: DictConfig, groups: dict[str, list[str]]
    ) -> None:
        """Refuses keys that no choice on the line has. An added key (``+``) is no exception."""
        data = OmegaConf.to_container(base, resolve=False)
        assert isinstance(data, dict)
        settings = {"hydra": data.pop("hydra")}
        keys, task = [*data, *flatten(data)], str(base.hydra.runtime.choices.get("task"))
        for word in groups:  # swept groups: the keys of their other choices
            override = self.overrides[word]
            if override.is_sweep_override() and not override.is_interval_sweep():
                group, places = override.key_or_group, self._folders()
                for choice in override.sweep_iterator(format_value):
                    if file := choice_file(places, group, str(choice)):
                        keys += file_entries(file_for(file, task))
        may_add = OpenKeys(data, values.values())
        for word, override in values.items():
            key, hydras = override.key_or_group, str(override.key_or_group).startswith("hydra.")
            adds = override.is_add() or override.is_force_add()
            if not key:
                self.problems[word] = Problem(word, "a key stands before the equals sign")
            elif hydras and not adds and not has_key(settings, key):
                self.problems[word] = no_such_key(key, flatten(settings))
            elif not hydras and key not in keys and not has_key(data, key):
                if may_add.has(key) and not override.is_delete():
                    self.opened[word] = word if adds else f"++{word}"
                    continue
                more = [f"trainer.{name}" for name in may_add.trainer()]
                self.problems[word] = self._owner(key, base) or no_such_key(key, [*keys, *more])
            elif not hydras and override.is_add():
                self.problems[word] = Problem(word, "the key is there; write it without +")
            elif reason := may_add.without_use(key):
                self.problems[word] = Problem(word, reason)

    def _owner(self, key: str, base: DictConfig) -> Problem | None:
        """Says so where another choice of the key's group has the key."""
        group = key.partition(".")[0]
        files = [file for it in self._folders() for file in sorted((it / group).glob("*.yaml"))]
        chosen, task = (base.hydra.runtime.choices.get(it) for it in (group, "task"))
        own = {file.stem: file_for(file, str(task)) for file in files}
        owners = [name for name, file in own.items() if key in file_entries(file)]
        if not owners:
            return None
        reason = f"no such key with {group}={chosen}; it belongs to {group}={' or '.join(owners)}"
        return Problem(key, reason)

    def _unread(self, word: str, error: Exception, base: DictConfig) -> str:
        """What is wrong with a word that is no override."""
        if "=" not in word:
            return self._without_value(word, base)
        return syntax_problem(word, error)

    def _without_value(self, word: str, base: DictConfig) -> str:
        groups = [group for group in self.loader.list_groups("") if word in self._choices(group)]
        if groups:
            meant = " or ".join(f"{group}={word}" for group in groups)
            return f"an override is KEY=VALUE; did you mean {meant}?"
        data = OmegaConf.to_container(base, resolve=False)
        assert isinstance(data, dict)
        if has_key(data, word):
            return f"a value must follow: {word}=VALUE"
        near = nearest_key(word, flatten(data))
        return "an override is KEY=VALUE" + (f"; did you mean {near}=VALUE?" if near else "")

    def _folders(self) -> list[Path]:
        """Where files of choices are: ours, and those that were typed."""
        typed = [*parse_words(self.extra)[0].values(), *self.overrides.values()]
        lists = [one.value() for one in typed if one.key_or_group == SEARCHPATH]
        added = [str(path) for paths in lists if isinstance(paths, list) for path in paths]
        return [self.config_dir, *(Path(path.removeprefix("file://")) for path in added)]

    def _misshapen(self, error: Exception) -> str | None:
        """Where a file has a list and the config a mapping, which Hydra does not say."""
        if not (name := re.match(r"In '(.+?)': ConfigTypeError", str(error))):
            return None
        known = _content(self.config_dir / "config.yaml")
        for folder in self._folders():
            file = folder / f"{name[1]}.yaml"
            if file.is_file() and (found := _other_shape(_content(file), known)):
                return f"{file}: {found}"
        return None

    def _compose(self, words: Sequence[str]) -> DictConfig:
        try:
            cfg = hydra.compose(self.config_name, [*words, *self.extra], return_hydra_config=True)
            if other := preset_not_for_task(cfg.hydra.runtime):
                raise settings_error([*self.problems.values()] or [other])
            return cfg
        except (HydraException, OmegaConfBaseException) as error:
            if other := not_for_task(error, self.config_dir):
                raise settings_error([*self.problems.values()] or [other]) from error
            reason = self._misshapen(error) or one_line(error)
            raise UserError(f"the config cannot be composed: {reason}") from error
        except MarkedYAMLError as error:
            raise UserError(not_yaml(error)) from error


def _content(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _other_shape(node: Any, like: Any, prefix: str = "") -> str | None:
    """The first key with a list where there should be a mapping, or the other way round."""
    for key, value in node.items():
        known = like.get(key)
        if {type(value), type(known)} == {list, dict}:
            return f"{prefix}{key} must be a {'list' if isinstance(known, list) else 'mapping'}"
        if isinstance(value, dict) and isinstance(known, dict):
            found = _other_shape(value, known, f"{prefix}{key}.")
            if found:
                return found
    return None


def _forgets_phases(cfg: DictConfig) -> bool:
    """Whether a sweeper that is not this project's got a study."""
    foreign = cfg.hydra.runtime.choices[SWEEPER] != "phasewise"
    return foreign and bool(OmegaConf.select(cfg, "study.phases"))

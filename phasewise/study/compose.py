"""The configs of trials, composed and checked before any of them runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from phasewise.config.choices import not_for_task, preset_not_for_task
from phasewise.config.command_line import one_line
from phasewise.config.fingerprint import NOT_COMPUTATION, file_hash
from phasewise.config.help import flatten, no_such_key, not_one_of
from phasewise.config.identity import DataIdentity, cached_identity, data_identity
from phasewise.errors import Problem, UserError
from phasewise.project import CONF
from phasewise.records.record import identity
from phasewise.study.application import Application
from phasewise.study.naming import parse_overrides
from phasewise.text import format_value

Problems = dict[Problem, list[str]]
"""What is wrong, and the names of the trials that have it."""

UNKNOWN = ""
"""The key of data of which nobody knows anything."""

_VARIABLE = re.compile(rb"\boc\.env:\s*['\"]?(\w*)")
"""A variable that a config or a word asks for; an empty name where it is another interpolation."""


@dataclass(frozen=True)
class ConfigIdentity:
    """What is remembered of a trial's config.

    Attributes:
        fingerprint: of the config.
        data: which of `Composer.data` it reads.
    """

    fingerprint: str
    data: str


class Composer:
    """Composes and checks the configs of trials, and says what each computes from which data.

    Hydra takes a tenth of a second for each; here it composes each choice of config groups once
    and applies the other overrides to copies, as it does itself after composing.

    Args:
        config: what Hydra composed for the sweep as a whole.
        loader: Hydra's.
        application: whose config it is.
        known: of configs that need no composing, by their words; see `context`.
        data: sections ``data`` of their configs, by `phasewise.config.identity.data_key`.

    Attributes:
        looks: whether data that are not known yet are looked at where they matter, which brings
            torch.
        unlooked: whether there were any while it did not.
        compares: whether there are earlier runs whose data are known. Without them, drawn data
            matter only beside others; those in a folder always do: they may be unusable.
        fetches: whether weights that a config wants need not be there yet.
        files: texts of configs that may name files that count by their content.
    """

    def __init__(
        self,
        config: DictConfig,
        loader: ConfigLoader,
        application: Application,
        known: Mapping[tuple[str, ...], ConfigIdentity] | None = None,
        data: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.config = config
        self.loader = loader
        self.application = application
        self.known = dict(known or {})
        self.data = dict(data or {})
        self.files: set[str] = set()
        self.reads_data = True
        self.has_unread_data = False
        self.compares_data = False
        self.fetches = False
        self._identities: dict[str, DataIdentity | None] = {}
        self._bases: dict[tuple[str, ...], bytes] = {}
        self._is_group: dict[str, bool] = {}

    def config_of(self, words: Sequence[str]) -> DictConfig:
        """The config of a trial, without its ``hydra`` section.

        Raises:
            hydra.errors.HydraException: the words do not compose.
        """
        parsed = parse_overrides(words)
        groups: list[Override] = []
        values: list[Override] = []
        for override in parsed:
            key = override.key_or_group
            if key not in self._is_group:
                self._is_group[key] = bool(self.loader.get_group_options(key))
            (groups if self._is_group[key] else values).append(override)
        lines = tuple(str(override.input_line) for override in groups)
        if lines not in self._bases:
            composed = self._compose(groups)
            with open_dict(composed):
                del composed["hydra"]
            OmegaConf.set_struct(composed, True)
            # pickled: its deepcopy takes six times as long, and a study makes hundreds of copies
            self._bases[lines] = pickle.dumps(composed)
        config = pickle.loads(self._bases[lines])
        assert isinstance(config, DictConfig)
        try:
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except HydraException as error:
            if foreign := re.match(r"Could not override '(.+?)'", str(error)):
                raise UserError(problems=[self._no_key(foreign[1], config, groups)]) from error
            raise
        return config

    def _no_key(self, key: str, config: DictConfig, groups: Sequence[Override]) -> Problem:
        """What to say of a key that a trial's config does not have; a group's keys are its own."""
        plain = OmegaConf.to_container(config, resolve=False)
        assert isinstance(plain, dict)
        group = key.partition(".")[0]
        chosen = {one.key_or_group: one.value() for one in groups}
        choice = chosen.get(group, self.config.hydra.runtime.choices.get(group))
        if choice is None:
            return no_such_key(key, flatten({k: it for k, it in plain.items() if k != "study"}))
        reason = no_such_key(key, flatten({group: plain[group]})).reason
        return Problem(key, reason.replace("no such key", f"no such key with {group}={choice}", 1))

    def _compose(self, groups: Sequence[Override]) -> DictConfig:
        """The config of choices of config groups.

        Raises:
            UserError: one does not exist; ``GROUP=null`` is none either.
            hydra.errors.HydraException: they do not compose.
        """
        try:
            lines = [str(override.input_line) for override in groups]
            cfg = self.loader.load_sweep_config(self.config, lines)
            if other := preset_not_for_task(cfg.hydra.runtime):
                raise UserError(problems=[other])
            return cfg
        except (HydraException, ValueError) as error:
            if other := not_for_task(error, CONF):
                raise UserError(problems=[other]) from error
            for override in groups:
                key, value = override.key_or_group, override.value()
                options = self.loader.get_group_options(key)
                if not override.is_delete() and value not in options:
                    problem = Problem(f"{key}={format_value(value)}", not_one_of(value, options))
                    raise UserError(problems=[problem]) from error
            raise

    def check(self, words: Sequence[str]) -> ConfigIdentity:
        """What a valid trial's config computes, and which data it reads.

        Raises:
            UserError: its settings cannot be used.
            hydra.errors.HydraException: the words do not compose.
        """
        key = tuple(words)
        if key not in self.known:
            config = self.config_of(words)
            if self.fetches:
                assume_weights(config)
            self.application.check(config)
            found = self.application.identify(config)
            self.files.update(found.files)
            asked, data = found.data or (UNKNOWN, None)
            if data is not None:
                self.data.setdefault(asked, data)
            self.known[key] = ConfigIdentity(found.fingerprint, asked)
        return self.known[key]

    def fingerprint(self, words: Sequence[str]) -> str:
        """The `phasewise.records.record.identity` of a valid trial: of its config and its data.

        Raises:
            UserError: its settings, or its data, cannot be used.
            hydra.errors.HydraException: the words do not compose.
        """
        found = self.check(words)
        data = self._data_identity(found.data)
        return identity(found.fingerprint, None if data is None else data.hash)

    def try_fingerprint(self, words: Sequence[str], name: str, problems: Problems) -> str | None:
        """As `fingerprint`; what is wrong with its settings is added to ``problems``."""
        try:
            self.check(words)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            for problem in problems_in(error):
                problems.setdefault(problem, []).append(name)
            return None
        return self.fingerprint(words)

    def data_of(self, words: Sequence[str]) -> DataIdentity | None:
        """The data of a valid trial; ``None`` where they cannot be known yet."""
        return self._data_identity(self.check(words).data)

    def _data_identity(self, asked: str) -> DataIdentity | None:
        data = self.data.get(asked)
        if data is None:
            return None
        if asked not in self._identities:
            self._identities[asked] = cached_identity(data)
        if self._identities[asked] is None:
            matter = bool(data.get("root")) or self.compares_data or len(self.data) > 1
            self.has_unread_data = self.has_unread_data or (matter and not self.reads_data)
            if matter and self.reads_data:
                self._identities[asked] = data_identity(data, self.application.seed)
        return self._identities[asked]


def assume_weights(config: DictConfig) -> str | None:
    """Let a config ask for weights by download, in place of a folder that is still to be filled.

    Returns:
        The folder; ``None`` where it names none.
    """
    folder = OmegaConf.select(config, "model.pretrained")
    if not isinstance(folder, str) or Path(folder).expanduser().is_file():
        return None
    config.model.pretrained = True
    return folder


def context(config: DictConfig, words: Sequence[str], files: Iterable[str]) -> str:
    """A hash of all that, besides its words, decides the fingerprint of a trial's config.

    That is the files on Hydra's search path, Hydra's own overrides, what a fingerprint leaves out,
    the variables of the environment that any of them, or a word, asks for, and the content of the
    files that configs name.

    Args:
        config: what Hydra composed for the sweep as a whole.
        words: of the command line.
        files: see `Composer.files`.
    """
    overrides = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    texts = [repr((NOT_COMPUTATION, overrides)).encode(), *(word.encode() for word in words)]
    for source in config.hydra.runtime.config_sources:
        if source.schema == "file":
            for path in sorted(Path(source.path).rglob("*.yaml")):
                texts += [str(path.relative_to(source.path)).encode(), path.read_bytes()]
    whole = b"\0".join(texts)
    names = {name.decode() for name in _VARIABLE.findall(whole)}
    found = {
        "variables": {name: os.environ.get(name) for name in sorted(names - {""})},
        "files": {name: file_hash(name) for name in sorted(files)},
    }
    if "" in names:  # a variable whose name follows from others: nothing is taken for known
        found["once"] = {"": uuid.uuid4().hex}
    return hashlib.sha256(whole + json.dumps(found).encode()).hexdigest()[:16]


def problems_in(error: Exception) -> tuple[Problem, ...]:
    """The single problems of an error that composing or checking a config raised."""
    if isinstance(error, UserError):
        return error.problems or (Problem("", "; ".join(str(error).splitlines())),)
    return (Problem("", one_line(error)),)


def trials_error(problems: Problems, total: int) -> UserError:
    """All that is wrong, each with the first trial that has it.

    Args:
        problems: what is wrong, and with which trials; with none, it says where it is.
        total: how many trials there are.
    """
    from phasewise.config.help import ADVICE

    located = []
    for problem, names in problems.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        where = "" if len(names) in (0, total) else f" (trial {names[0]}{more})"
        located.append(Problem(problem.file or "config", problem.reason + where))
    return UserError("settings cannot be used; no trial was run", located, ADVICE)

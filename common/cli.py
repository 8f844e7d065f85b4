"""The command line of the entry scripts: Hydra's, with everything checked before anything runs.

What a person typed is refused in one message, before Hydra makes a directory and before torch
is imported: unknown keys and choices here, values by `common.schema`. Exit codes: 0 completed,
1 failed, 2 refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.errors import Problem, UserError
from common.help import (
    ADVICE,
    file_entries,
    flatten,
    help_text,
    nearest,
    nearest_key,
    no_such_key,
    not_one_of,
    refusal,
    show,
)

ROOT = Path(__file__).resolve().parents[1]
"""Where the entry scripts and conf/ lie."""

HYDRA_VERSION = "1.3"
FREE_MB = 50
"""Disk space that a run must find, in MB: logs, records and a small checkpoint."""

FULL_ERROR = "HYDRA_FULL_ERROR"
OURS = "PHASEWISE_SET_HYDRA_FULL_ERROR"
"""Set where FULL_ERROR is our doing, which child processes inherit, and not the person's wish."""


@dataclass
class Job:
    """What Hydra calls for each run; ``run`` (``module:function``) is imported only then."""

    run: str
    error: Exception | None = None
    log: Path | None = None

    def __call__(self, cfg: DictConfig) -> float | None:
        """Runs one job. The error of a single run is kept, for Hydra would talk about it first."""
        settings = HydraConfig.get()
        if settings.mode == RunMode.MULTIRUN:
            _check_values(cfg)  # not every sweeper has done so
            return self._run(cfg)
        self.log = Path(settings.runtime.output_dir) / "run.log"
        try:
            return self._run(cfg)
        except Exception as error:
            self.error = error
            return None

    def _run(self, cfg: DictConfig) -> float | None:
        module, _, function = self.run.partition(":")
        result: float | None = getattr(import_module(module), function)(cfg)
        return result


def main(run: str, config_name: str = "config") -> NoReturn:
    """Parses ``sys.argv``, checks it, runs it and exits.

    Args:
        run: ``package.module:function``, called with the composed config of each run; its
            result, a float or ``None``, is the objective for Hydra's sweepers.
        config_name: the primary config in ``conf/``.
    """
    job = Job(run)
    wants_traceback = os.environ.get(FULL_ERROR) == "1" and OURS not in os.environ
    if not wants_traceback:
        os.environ |= {FULL_ERROR: "1", OURS: "1"}  # Hydra then raises instead of printing
    try:
        _run(job, config_name)
    except KeyboardInterrupt:
        _exit(130, "interrupted")
    except Exception as error:
        if wants_traceback:
            traceback.print_exc()
        if isinstance(error, UserError):
            _exit(getattr(error, "exit_code", 2), str(error))
        if isinstance(error, HydraException | OmegaConfBaseException) and error is not job.error:
            _exit(1 if isinstance(error, InstantiationException) else 2, _one_line(error))
        log = f"\nsee {os.path.relpath(job.log)}" if job.log and job.log.exists() else ""
        _exit(1, f"{type(error).__name__}: {error}{log}")
    sys.exit(0)


def _exit(code: int, message: str) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)


def _one_line(error: Exception) -> str:
    """The first lines of an error of Hydra and of its cause; the others are for programmers."""
    errors = [error, *([error.__cause__] if error.__cause__ else [])]
    return ": ".join(str(it).strip().partition("\n")[0].rstrip(".:") for it in errors)


def _run(job: Job, config_name: str) -> None:
    args = _parse(sys.argv[1:])
    config_dir = ROOT / (args.config_path or "conf")
    name = args.config_name or config_name
    # Hydra's parser takes no override after a flag, and a relative path from elsewhere.
    flags = [word for word in sys.argv[1:] if word not in args.overrides]
    path = ["--config-path", str(config_dir)] if args.config_path else []
    sys.argv[1:] = [*args.overrides, *flags, *path]
    if not (args.shell_completion or args.hydra_help or args.info or args.experimental_rerun):
        _preflight(args, config_dir, name)
    if args.help:
        return
    job.__module__ = Path(sys.argv[0]).stem  # what Hydra calls the job
    hydra.main(version_base=HYDRA_VERSION, config_path=str(config_dir), config_name=name)(job)()
    if job.error is not None:
        raise job.error


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, with overrides wherever they stand."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}\n{ADVICE}")

    parser.error = refuse  # type: ignore[method-assign]
    args, extra = parser.parse_known_args(argv)
    unknown = [word for word in extra if word.startswith("-")]
    if unknown:
        raise refusal([Problem(word, _unknown_flag(word)) for word in unknown])
    args.overrides += extra
    if (args.multirun + bool(args.cfg) + bool(args.info)) > 1:
        refuse("--multirun, --cfg and --info do not go together")
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        refuse(f"--config-dir={args.config_dir}: no such folder")
    return args


def _unknown_flag(word: str) -> str:
    name = word.lstrip("-")
    return "no such flag" + (f"; keys have no dashes: {name}" if "=" in name else "")


def _preflight(args: argparse.Namespace, config_dir: Path, config_name: str) -> None:
    """Composes the config once and refuses what is wrong with it; answers ``--help``."""
    extra = []
    if args.config_dir is not None:
        extra = [f"hydra.searchpath=['file://{Path(args.config_dir).resolve()}']"]
    stem = Path(sys.argv[0]).stem
    with hydra.initialize_config_dir(str(config_dir), stem, version_base=HYDRA_VERSION):
        line = CommandLine(args.overrides, config_dir, config_name, extra)
        cfg, sweep = line.compose(bool(args.multirun))
        if args.help:
            width = shutil.get_terminal_size((110, 24)).columns
            _say(help_text(cfg, config_dir, Path(sys.argv[0]).name, width))
        if args.help or args.cfg:
            return
        HydraConfig.instance().set_config(cfg)  # for `${hydra:...}`
        if not sweep:
            _check_values(cfg)
        kind = "sweep" if sweep else "run"
        check_directory(f"hydra.{kind}.dir", str(cfg.hydra[kind].dir))
    HydraConfig.instance().cfg = None


def _say(text: str) -> None:
    """Prints; a reader that has seen enough (``--help | head``) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_values(cfg: DictConfig) -> None:
    from common.schema import check_config  # pydantic takes a while, and `--help` needs none

    check_config(cfg)


def check_directory(key: str, name: str) -> None:
    """Refuses an output directory that cannot be made or filled, without making it.

    Args:
        key: the override that chooses it.
        name: the directory, which need not exist.

    Raises:
        UserError: a part of it is not a folder, it cannot be written, or the disk is full.
    """
    path = Path(name).absolute()
    advice = f"{key}=DIR chooses another place for the output"
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        raise UserError(f"{key}={name}: {there} is not a folder\n{advice}")
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions alone do not tell, least of all root
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{key}={name}: {there} cannot be written: {reason}\n{advice}") from error
    disk = shutil.disk_usage(there)
    if disk.total and disk.free < FREE_MB * 10**6:
        free = f"only {disk.free / 10**6:.0f} MB are free there, {FREE_MB} MB are needed"
        raise UserError(f"{key}={name}: {free}\n{advice}")


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
        self.overrides: dict[str, Override] = {}
        self.unread: dict[str, Exception] = {}
        self.problems: dict[str, Problem] = {}
        parser = OverridesParser.create(config_loader=self.loader)
        for word in self.words:
            try:
                self.overrides[word] = parser.parse_rule(word, "override")
                self.overrides[word].config_loader = self.loader
            except HydraException as error:
                self.unread[word] = error

    def compose(self, multirun: bool) -> tuple[DictConfig, bool]:
        """The composed config with its ``hydra`` node, and whether it is a sweep.

        Swept keys keep their defaults in it, swept groups take their first choice.

        Raises:
            UserError: everything that is wrong with the words.
        """
        options = {word: self._options(override) for word, override in self.overrides.items()}
        groups = {word: allowed for word, allowed in options.items() if allowed}
        choices = [self._choose(word, allowed) for word, allowed in groups.items()]
        base = self._compose([choice for choice in choices if choice])
        sweep = "hydra.mode=MULTIRUN" in self.words or base.hydra.mode == RunMode.MULTIRUN
        sweep = sweep or multirun
        values = {word: it for word, it in self.overrides.items() if word not in groups}
        if all(choices):  # else keys of a choice that is not known would be called unknown
            self._check_keys(values, base, groups)
        for word, override in self.overrides.items():
            if override.is_sweep_override() and not sweep and word not in self.problems:
                reason = "several values need -m; a list is [a,b], a comma in a text 'KEY=\"a,b\"'"
                self.problems[word] = Problem(word, reason)
        for word, error in self.unread.items():
            self.problems[word] = Problem(word, self._unread(word, error, base))
        if self.problems:
            raise refusal([self.problems[word] for word in self.words if word in self.problems])
        fixed = [word for word, override in values.items() if not override.is_sweep_override()]
        return (self._compose([*map(str, choices), *fixed]) if fixed else base), sweep

    def _options(self, override: Override) -> list[str]:
        """Choices of a config group; nothing where the key is no group."""
        key = override.key_or_group
        return [] if not key or "." in key else self.loader.get_group_options(key)

    def _choose(self, word: str, options: Sequence[str]) -> str | None:
        """The override that composes the (first) choice of a group, or of the nearest one."""
        override = self.overrides[word]
        group = override.key_or_group
        if override.is_delete() or override.is_interval_sweep():
            return word
        swept = override.is_sweep_override()
        values = list(override.sweep_iterator(show)) if swept else [show(override.value())]
        if values == ["null"] and group.startswith("hydra/"):
            return word
        for value in values:
            if value not in options:
                self.problems[word] = Problem(f"{group}={value}", not_one_of(value, options))
                near = nearest(value, options)
                return f"{group}={near}" if near else None
        return f"{group}={values[0]}" if swept else word

    def _check_keys(
        self, values: dict[str, Override], base: DictConfig, groups: dict[str, list[str]]
    ) -> None:
        """Refuses keys that no choice on the line has. An added key (``+``) is no exception."""
        data = OmegaConf.to_container(base, resolve=False)
        assert isinstance(data, dict)
        settings = {"hydra": data.pop("hydra")}
        keys = [*data, *flatten(data)]
        for word in groups:  # swept groups: the keys of their other choices
            override = self.overrides[word]
            if override.is_sweep_override() and not override.is_interval_sweep():
                folder = self.config_dir / override.key_or_group
                files = [folder / f"{choice}.yaml" for choice in override.sweep_iterator(show)]
                keys += [key for file in files if file.is_file() for key in file_entries(file)]
        for word, override in values.items():
            key, hydras = override.key_or_group, str(override.key_or_group).startswith("hydra.")
            adds = override.is_add() or override.is_force_add()
            if not key:
                self.problems[word] = Problem(word, "a key stands before the equals sign")
            elif hydras and not adds and not _has(settings, key):
                self.problems[word] = no_such_key(key, flatten(settings))
            elif not hydras and key not in keys and not _has(data, key):
                owner = self._owner(key, base)
                self.problems[word] = owner or no_such_key(key, keys)
            elif not hydras and override.is_add():
                self.problems[word] = Problem(word, "the key is there; write it without +")

    def _owner(self, key: str, base: DictConfig) -> Problem | None:
        """Says so where another choice of the key's group has the key."""
        group = key.partition(".")[0]
        files = sorted((self.config_dir / group).glob("*.yaml"))
        owners = [file.stem for file in files if key in file_entries(file)]
        if not owners:
            return None
        chosen = base.hydra.runtime.choices.get(group)
        reason = f"no such key with {group}={chosen}; it belongs to {group}={' or '.join(owners)}"
        return Problem(key, reason)

    def _unread(self, word: str, error: Exception, base: DictConfig) -> str:
        """What is wrong with a word that is no override, and where."""
        key, equals, value = word.partition("=")
        if not equals:
            return self._without_value(word, base)
        cause = error.__cause__
        column = getattr(cause, "startIndex", None)  # of the lexer
        if column is None:
            column = getattr(getattr(cause, "offendingToken", None), "column", None)
        if column is None and (unexpected := re.search(r"input '(.+?)' expecting", str(error))):
            column = word.rfind(unexpected[1])
        column = len(word) if column is None else column
        place = f"cannot be read from character {column + 1} on, {word[column:]!r}"
        if column >= len(word):
            place = "ends too early"
        if column < len(key) + 1:
            return f"{place}; a key has no spaces, dashes or brackets"
        if value[:1] in ("[", "{"):
            return f"{place}; brackets, braces and quotes must be closed"
        return f"{place}; quote such a text: '{key}=\"{value.strip(chr(34) + chr(39))}\"'"

    def _without_value(self, word: str, base: DictConfig) -> str:
        for group in self.loader.list_groups(""):
            if word in self.loader.get_group_options(group):
                return f"an override is KEY=VALUE; did you mean {group}={word}?"
        data = OmegaConf.to_container(base, resolve=False)
        assert isinstance(data, dict)
        if _has(data, word):
            return f"a value must follow: {word}=VALUE"
        near = nearest_key(word, flatten(data))
        return "an override is KEY=VALUE" + (f"; did you mean {near}=VALUE?" if near else "")

    def _compose(self, words: Sequence[str]) -> DictConfig:
        try:
            return hydra.compose(self.config_name, [*words, *self.extra], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"the config cannot be composed: {_one_line(error)}") from error


def _has(node: Any, key: str) -> bool:
    """Whether a dotted key leads anywhere in a plain container."""
    for part in key.split("."):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return False
    return True

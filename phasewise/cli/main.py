"""The command line of the entry scripts: Hydra's, with everything checked before anything runs.

What a person typed is refused in one message, before Hydra makes a directory and before torch
is imported: unknown keys and choices here, values by `phasewise.config.schema`. Exit codes: 0
completed, 1 failed, 2 refused, 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.cli.completion import completing
from phasewise.cli.place import study_place
from phasewise.cli.script import FULL_ERROR, exit_with
from phasewise.cli.shell import path_override, quoted, relative_path, shell_command
from phasewise.cli.worker_process import in_worker
from phasewise.config.command_line import CommandLine, one_line
from phasewise.config.help import ADVICE, help_text, settings_error
from phasewise.config.previous import previous_run
from phasewise.errors import Problem, RunFailedError, StorageError, UserError, say
from phasewise.project import HYDRA_VERSION, JOURNAL, ROOT, tell_children
from phasewise.records.record import RECORD
from phasewise.storage import FREE_MB, storage_error

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Hydra's own, which runs jobs in the process that launches them."""

DEPTH = 3
"""So many folders a trial may lie below its study: ``superseded/PHASE/TRIAL``."""

OURS = "PHASEWISE_SET_HYDRA_FULL_ERROR"
"""Set where FULL_ERROR is our doing, which child processes inherit, and not the person's wish."""


OF_LIGHTNING = "hydra.job.name=train_ddp_process_"
"""What Lightning's command for another device has, which repeats keys: its own words come last."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: somebody else's Ctrl-C."""


@dataclass
class TaskFunction:
    """What Hydra calls for each run; ``run`` (``module:function``) is imported only then."""

    run: str
    error: Exception | None = None
    log: Path | None = None
    place: tuple[str, Path] | None = None
    """The override that chooses where the output goes, and its value, if the time is part of it."""

    def __call__(self, cfg: DictConfig) -> float | None:
        """Runs one job. The error of a single run is kept, for Hydra would talk about it first."""
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            from phasewise.config.schema import check_config

            check_config(cfg)  # not every sweeper has done so
            here = settings.launcher._target_ == BASIC_LAUNCHER
            with nullcontext() if here else in_worker(directory):
                return self.imported()(cfg)
        if self.place is not None:
            self.place = "hydra.run.dir", directory
        self.log = directory / "run.log"
        try:
            return self.imported()(cfg)
        except Exception as error:
            self.error = error
            return None

    def imported(self) -> Callable[[DictConfig], float | None]:
        """The function that ``run`` names; it brings torch."""
        # Where processes share cores, OpenMP's threads that spin 300,000 times before they sleep
        # slow each other down severalfold; this often costs nothing alone. Read with torch.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        module, _, function = self.run.partition(":")
        found: Callable[[DictConfig], float | None] = getattr(import_module(module), function)
        return found


def main(run: str, config_name: str = "config") -> NoReturn:
    """Parses ``sys.argv``, checks it, runs it and exits.

    Args:
        run: ``package.module:function``, called with the composed config of each run; its
            result, a float or ``None``, is the objective for Hydra's sweepers.
        config_name: the primary config in ``conf/``, which lies beside the script that calls this
            (in a checkout of this project: beside the package).
    """
    job = TaskFunction(run)
    words, name = sys.argv[1:], Path(sys.argv[0]).name
    tell_children()
    signal.signal(signal.SIGTERM, _terminate)
    logging.raiseExceptions = False  # where nobody reads on (`| head`), a run goes on in silence
    wants_traceback = os.environ.get(FULL_ERROR) == "1" and OURS not in os.environ
    if not wants_traceback:
        os.environ |= {FULL_ERROR: "1", OURS: "1"}  # Hydra then raises instead of printing
    try:
        _launch(job, config_name)
    except KeyboardInterrupt as stop:
        exit_with(
            name,
            143 if isinstance(stop, Terminated) else 130,
            f"interrupted; to continue:\n{_command(job, words)}",
        )
    except Exception as error:
        if wants_traceback:
            traceback.print_exc()
        if not isinstance(error, UserError):
            error = storage_error(error) or error
        if isinstance(error, StorageError):
            exit_with(name, error.exit_code, f"{error}:\n{_command(job, words)}")
        if isinstance(error, UserError):
            exit_with(name, getattr(error, "exit_code", 2), str(error))
        if isinstance(error, HydraException | OmegaConfBaseException) and error is not job.error:
            exit_with(name, 1 if isinstance(error, InstantiationException) else 2, one_line(error))
        log = f"\nsee {relative_path(job.log)}" if job.log and job.log.exists() else ""
        what = "" if isinstance(error, RunFailedError) else f"{type(error).__name__}: "
        exit_with(name, 1, f"{what}{error}{log}")
    sys.exit(0)


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def _command(job: TaskFunction, words: Sequence[str]) -> str:
    """How an interrupted run or sweep continues: the same command, in the same place."""
    if job.place is not None:
        key, path = job.place
        kept = [word for word in words if not word.startswith(f"{key}=")]
        words = [*kept, path_override(key, path)]
    return shell_command(sys.argv[0], words)


def _launch(job: TaskFunction, config_name: str) -> None:
    args = _parse(sys.argv[1:])
    config_dir = ROOT / (args.config_path or "conf")
    if not config_dir.is_dir():
        advice = "configs lie in conf/ beside the script, or where --config-path=DIR says"
        raise UserError(f"{config_dir}: no such folder; {advice}")
    name = args.config_name or config_name
    # Hydra's parser takes no override after a flag, and a relative path from elsewhere.
    flags = [word for word in sys.argv[1:] if word not in args.overrides]
    path = ["--config-path", str(config_dir)] if args.config_path else []
    if any(word.startswith(OF_LIGHTNING) for word in args.overrides):
        args.overrides = list({word.partition("=")[0]: word for word in args.overrides}.values())
    sys.argv[1:] = [*args.overrides, *flags, *path]
    if not (args.shell_completion or args.hydra_help or args.info or args.experimental_rerun):
        launched = _preflight(args, config_dir, name, job)
        sys.argv[1 : len(args.overrides) + 1] = launched
    if args.help:
        return
    job.__module__ = Path(sys.argv[0]).stem  # what Hydra calls the job
    answer = completing(args.overrides) if args.shell_completion else nullcontext()
    with answer:
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
        raise settings_error([Problem(word, _unknown_flag(word)) for word in unknown])
    args.overrides += extra
    if (args.multirun + bool(args.cfg) + bool(args.info)) > 1:
        refuse("--multirun, --cfg and --info do not go together")
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        refuse(f"--config-dir={args.config_dir}: no such folder")
    return args


def _unknown_flag(word: str) -> str:
    name = word.lstrip("-")
    return "no such flag" + (f"; keys have no dashes: {name}" if "=" in name else "")


def _preflight(
    args: argparse.Namespace, config_dir: Path, config_name: str, job: TaskFunction
) -> list[str]:
    """Composes the config once and refuses what is wrong with it; answers ``--help``.

    Tells ``job`` its place, where a second call of the same command would choose another one.

    Returns:
        The overrides in the form that Hydra needs, see `CommandLine.launched`.
    """
    extra = []
    if args.config_dir is not None:
        extra = [f"hydra.searchpath=[{quoted(f'file://{Path(args.config_dir).resolve()}')}]"]
    stem = Path(sys.argv[0]).stem
    with hydra.initialize_config_dir(str(config_dir), stem, version_base=HYDRA_VERSION):
        line = CommandLine(args.overrides, config_dir, config_name, extra)
        cfg, sweep = line.compose(bool(args.multirun))
        if args.help:
            width = shutil.get_terminal_size((110, 24)).columns
            say(help_text(cfg, config_dir, Path(sys.argv[0]).name, width))
        if args.help or args.cfg:
            return line.words
        HydraConfig.instance().set_config(cfg)  # for `${hydra:...}`
        if not sweep:
            from phasewise.config.schema import check_config  # `--help` needs no pydantic

            check_config(cfg)
        kind = "sweep" if sweep else "run"
        directory = str(cfg.hydra[kind].dir)
        raw = OmegaConf.to_container(cfg.hydra[kind], resolve=False)
        timed = isinstance(raw, dict) and "${now:" in raw["dir"]
        own = _own_place(cfg, line.words, directory) if sweep and not timed else None
        directory = own or directory
        check_directory(f"hydra.{kind}.dir", directory)
        check_occupied(f"hydra.{kind}.dir", Path(directory), sweep=sweep)
        if not sweep:
            previous_run(directory, cfg)  # Hydra would overwrite what it keeps of another run
        launched = line.launched() if sweep else line.words
        if own is not None:
            launched = [*launched, path_override("hydra.sweep.dir", Path(own))]
        if timed:
            job.place = f"hydra.{kind}.dir", Path(directory)
            if sweep:  # the time of now, not that of Hydra's turn
                launched = [*launched, path_override("hydra.sweep.dir", Path(directory))]
    HydraConfig.instance().cfg = None
    return launched


def _own_place(cfg: DictConfig, words: Sequence[str], directory: str) -> str | None:
    """Where a study goes whose settings were typed, if not where its file says."""
    typed = any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in words)
    if typed or not cfg.hydra.runtime.choices.get("study"):
        return None
    place, note = study_place(Path(directory), words)
    if note:
        say(note)
    return None if place == Path(directory) else str(place)


def check_occupied(key: str, directory: Path, *, sweep: bool) -> None:
    """Refuses a run in or below a study's directory, a sweep in a run's or among a study's trials.

    Whether a sweep may go on where another one is, its plan decides.

    Raises:
        UserError: whose directory it is.
    """
    owner = None
    if sweep and (directory / RECORD).exists():
        owner = "a single run"
    elif (directory / JOURNAL).exists():
        owner = None if sweep else "a study or sweep"
    elif (directory.absolute().parent / JOURNAL).exists() and any(directory.glob(f"*/{RECORD}")):
        owner = "a phase of a study"
    elif not sweep and not (directory / RECORD).exists():  # a trial may be gone on with by hand
        inside = directory.absolute().parents[:DEPTH]
        study = next((it for it in inside if (it / JOURNAL).exists()), None)
        if study is not None:
            raise UserError(
                f"{key}={directory}: is among the trials of the study or sweep in {study}, which "
                f"would take it for one of them; {key}=DIR chooses another place for this one"
            )
    if owner is not None:
        raise UserError(
            f"{key}={directory}: {owner} lies there; {key}=DIR chooses another place for this one"
        )


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

"""What an ``-m`` line does: expand it, check every trial, launch, tell what came out.

The four steps know nothing of each other, so that a study of several phases can repeat them with
overrides that grow from phase to phase.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException, HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from common.errors import Problem, UserError, collect
from common.record import FINAL, RunRecord, read_record
from studies.naming import trial_name
from studies.table import format_table, sweep_table, unfinished, write_csv

TABLE = "sweep.csv"
HYDRAS_SUBDIR = "${hydra.job.num}"

log = logging.getLogger(__name__)


class SweepError(UserError, CompactHydraException):
    """A `UserError` that Hydra, too, prints without a traceback before it exits with 1."""


class SweepFailed(SweepError):
    """The sweep ran, but not every trial completed."""


@dataclass(frozen=True)
class Trial:
    """One cell of the sweep: the overrides that make it and the directory that it runs in."""

    overrides: tuple[str, ...]
    name: str
    directory: Path

    @property
    def launched_as(self) -> list[str]:
        """The overrides, and one more that puts the trial into its directory."""
        quoted = QuotedString(self.name, Quote.single).with_quotes()
        return [*self.overrides, f"hydra.sweep.subdir={quoted}"]


def is_phasewise(config: DictConfig) -> bool:
    """Whether the application is one of this project's, whose config names a schema."""
    return OmegaConf.select(config, "task.schema") is not None


def sweep(
    arguments: Sequence[str],
    *,
    config: DictConfig,
    config_loader: ConfigLoader,
    launcher: Launcher,
    max_batch_size: int | None = None,
) -> list[Sequence[JobReturn]]:
    """Run every combination of the values on an ``-m`` line and print their table.

    Args:
        arguments: the overrides as typed, sweeps included.
        config: what Hydra composed for the sweep as a whole.
        max_batch_size: most trials that the launcher gets at once; ``None`` for all.

    Returns:
        What the jobs returned, batch by batch.

    Raises:
        SweepError: before anything runs, if a trial's config is not valid.
        SweepFailed: after everything ran, if a trial did not complete.
    """
    sweep_dir = prepare(config)
    trials = check(expand(arguments, config_loader), config=config, config_loader=config_loader)
    returns: list[Sequence[JobReturn]] = []
    try:
        for start in range(0, len(trials), max_batch_size or len(trials)):
            batch = trials[start : start + (max_batch_size or len(trials))]
            returns.append(launch(batch, launcher, start))
    except BaseException:  # Ctrl-C, sys.exit in a job, a launcher that lost its workers
        show(outcomes(trials, returns), sweep_dir)
        raise
    records = outcomes(trials, returns)
    if not show(records, sweep_dir):
        for job in (job for batch in returns for job in batch):
            _ = job.return_value  # raises if the job failed
        return returns
    if failed := [record for record in records if record.status != "completed"]:
        raise SweepFailed(_failures(failed, len(records)))
    return returns


def prepare(config: DictConfig) -> Path:
    """Make the sweep's directory and leave its config in it, as Hydra's sweeper does.

    Raises:
        SweepError: if it cannot be written, or trials are to be named by another rule.
    """
    settings = config.hydra.sweep
    if OmegaConf.to_container(settings, resolve=False)["subdir"] != HYDRAS_SUBDIR:  # type: ignore[index, call-overload]
        raise SweepError(
            "hydra.sweep.subdir cannot be set: trials are named by their overrides\n"
            "hydra.sweep.dir=DIR chooses the directory of the sweep"
        )
    sweep_dir = Path(str(settings.dir))
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, sweep_dir / "multirun.yaml")
    except OSError as error:
        raise SweepError(
            f"{sweep_dir} cannot be written: {error.strerror or error}\n"
            "hydra.sweep.dir=DIR chooses another place"
        ) from error
    return sweep_dir


def expand(arguments: Sequence[str], config_loader: ConfigLoader) -> list[tuple[str, ...]]:
    """All combinations of an ``-m`` line's values, in the order of Hydra's own sweeper, each once.

    Raises:
        hydra.errors.HydraException: for a line that Hydra cannot read, or a continuous interval.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    overrides = parser.parse_overrides(list(arguments))
    combinations = [tuple(one) for one in BasicSweeper.split_arguments(overrides, None)[0]]
    once = {trial_name(combination): combination for combination in reversed(combinations)}
    unique = list(reversed(once.values()))
    if repeated := len(combinations) - len(unique):
        log.info("%d of %d trials are repetitions and run once", repeated, len(combinations))
    return unique


def check(
    combinations: Sequence[tuple[str, ...]], *, config: DictConfig, config_loader: ConfigLoader
) -> list[Trial]:
    """Compose and check the config of every trial, so that nothing runs if one of them is wrong.

    Raises:
        SweepError: all that is wrong, each with the first trial that has it.
    """
    from common.schema import check_config

    trials: list[Trial] = []
    reasons: dict[str, list[str]] = {}
    for overrides in combinations:
        name = trial_name(overrides)
        try:
            composed = config_loader.load_sweep_config(config, list(overrides))
            trials.append(Trial(overrides, name, Path(str(composed.hydra.sweep.dir)) / name))
            with open_dict(composed):
                del composed["hydra"]
            check_config(composed)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            reasons.setdefault(_reason(error), []).append(name)
    if reasons:
        raise _refusal(reasons, len(combinations))
    return trials


def launch(trials: Sequence[Trial], launcher: Launcher, first: int) -> Sequence[JobReturn]:
    """Run a batch of trials; a job that fails is a `JobReturn` that says so.

    Args:
        first: number of the first job, counted over all batches.
    """
    return launcher.launch([trial.launched_as for trial in trials], initial_job_idx=first)


def outcomes(
    trials: Sequence[Trial], returns: Sequence[Sequence[JobReturn]]
) -> list[RunRecord]:
    """The record of every trial, corrected by what the launcher saw.

    Args:
        trials: all of them, in the order launched.
        returns: of the batches that came to an end.
    """
    jobs: list[JobReturn | None] = [job for batch in returns for job in batch]
    jobs += [None] * (len(trials) - len(jobs))
    return [_outcome(trial, job) for trial, job in zip(trials, jobs, strict=True)]


def show(records: Sequence[RunRecord], sweep_dir: Path) -> bool:
    """Print the table and write it as CSV, if any trial left a record; tell whether one did."""
    if not any(record.task for record in records):
        return False
    table = sweep_table(records)
    path = sweep_dir / TABLE
    print(f"\n{format_table(table)}\n\n{path}", flush=True)
    write_csv(table, path)
    return True

"""What an ``-m`` line does: expand it, check every trial, launch, tell what came out.

The steps know nothing of each other, so that a study of several phases can repeat them with
overrides that grow from phase to phase.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from common.command_line import one_line
from common.errors import Problem, UserError, collect, say
from common.record import RunRecord, previous_run, read_record
from studies.naming import parse_overrides, trial_name
from studies.table import (
    UNFINISHED,
    best_row,
    format_table,
    sweep_table,
    trial_labels,
    unfinished,
    write_csv,
)

TABLE = "sweep.csv"
RUN_LOG = "run.log"
HYDRAS_SUBDIR = "${hydra.job.num}"

log = logging.getLogger(__name__)


class SweepFailed(UserError):
    """The sweep ran, but not every trial completed."""

    exit_code = 1


@dataclass(frozen=True)
class Trial:
    """One cell of the sweep: the overrides that make it and the directory that it runs in."""

    overrides: tuple[str, ...]
    directory: Path

    @property
    def launched_as(self) -> list[str]:
        """The overrides, and one more that puts the trial into its directory."""
        quoted = QuotedString(self.directory.name, Quote.single).with_quotes()
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

    Jobs that leave no record (``evaluate.py -m``) get no table; what they return or raise is
    passed on, as Hydra's own sweeper does.

    Args:
        arguments: the overrides as typed, sweeps included.
        config: what Hydra composed for the sweep as a whole.
        config_loader: Hydra's, which composes the trials.
        launcher: any of Hydra's.
        max_batch_size: most trials that the launcher gets at once; ``None`` for all.

    Returns:
        What the jobs returned, batch by batch.

    Raises:
        UserError: before anything runs, if a trial's config is not valid.
        SweepFailed: after everything ran, if a trial did not complete.
    """
    trials = check(expand(arguments, config_loader), config=config, config_loader=config_loader)
    size = len(trials) if max_batch_size is None else max_batch_size
    if size < 1:
        raise UserError(f"hydra.sweeper.max_batch_size={size} must be null or at least 1")
    sweep_dir = prepare(config)
    returns: list[Sequence[JobReturn]] = []
    try:
        for first in range(0, len(trials), size):
            batch = launch(trials[first : first + size], launcher, first)
            returns.append(batch)
    except BaseException:  # Ctrl-C, sys.exit in a job, a launcher that lost its workers
        show(outcomes(trials, returns), sweep_dir)
        raise
    records = outcomes(trials, returns)
    if not show(records, sweep_dir):
        for job in (job for batch in returns for job in batch):
            _ = job.return_value  # raises what the job raised
    elif any(record.status != "completed" for record in records):
        raise SweepFailed(_failures(records))
    return returns


def expand(arguments: Sequence[str], config_loader: ConfigLoader) -> list[tuple[str, ...]]:
    """All combinations of an ``-m`` line's values, in the order of Hydra's own sweeper, each once.

    Raises:
        UserError: if there is none.
        hydra.errors.HydraException: for a line that Hydra cannot read, or a continuous interval.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    overrides = parser.parse_overrides(list(arguments))
    combinations = [tuple(one) for one in BasicSweeper.split_arguments(overrides, None)[0]]
    if not combinations:
        raise UserError("the sweep has no trial: one of its keys has no values")
    once: dict[str, tuple[str, ...]] = {}
    for combination in combinations:
        once.setdefault(trial_name(combination), combination)
    if repeated := len(combinations) - len(once):
        log.info("%d of %d trials are repetitions and run once", repeated, len(combinations))
    return list(once.values())


def check(
    combinations: Sequence[tuple[str, ...]], *, config: DictConfig, config_loader: ConfigLoader
) -> list[Trial]:
    """Compose and check the config of every trial, so that nothing runs if one of them is wrong.

    Raises:
        UserError: all that is wrong, each with the first trial that has it; or trials are to be
            named by another rule.
    """
    from common.schema import check_config  # pydantic takes a while

    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if isinstance(raw, dict) and raw["subdir"] != HYDRAS_SUBDIR:
        raise UserError(
            "hydra.sweep.subdir cannot be set: trials are named by their overrides\n"
            "hydra.sweep.dir=DIR chooses the directory of the sweep"
        )
    _ = str(config.hydra.sweep.dir)  # settles its ${now:...}, which all trials then take over
    trials: list[Trial] = []
    reasons: dict[str, list[str]] = {}
    lead = _varying_keys(combinations)
    for overrides in combinations:
        name = trial_name(overrides, lead)
        try:
            composed = config_loader.load_sweep_config(config, list(overrides))
            trials.append(Trial(overrides, Path(str(composed.hydra.sweep.dir)) / name))
            with open_dict(composed):
                del composed["hydra"]
            check_config(composed)
            previous_run(trials[-1].directory, composed)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            for reason in _reasons(error):
                reasons.setdefault(reason, []).append(name)
    if reasons:
        raise _refusal(reasons, len(combinations))
    return trials


def prepare(config: DictConfig) -> Path:
    """Make the sweep's directory and leave its config in it, as Hydra's sweeper does.

    Raises:
        UserError: if it cannot be written.
    """
    sweep_dir = Path(str(config.hydra.sweep.dir))
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, sweep_dir / "multirun.yaml")
    except OSError as error:
        raise UserError(
            f"{sweep_dir} cannot be written: {error.strerror or error}\n"
            "hydra.sweep.dir=DIR chooses another place"
        ) from error
    return sweep_dir


def launch(trials: Sequence[Trial], launcher: Launcher, first: int) -> Sequence[JobReturn]:
    """Run a batch of trials; a job that fails is a `JobReturn` that says so.

    Args:
        trials: of the batch.
        launcher: any of Hydra's.
        first: number of the first job, counted over all batches.
    """
    return launcher.launch([trial.launched_as for trial in trials], initial_job_idx=first)


def outcomes(trials: Sequence[Trial], returns: Sequence[Sequence[JobReturn]]) -> list[RunRecord]:
    """The record of every trial, corrected by what the launcher saw.

    A trial without a record, or whose record still says ``running``, is ``failed`` if its job
    raised, else ``unfinished``; one that says ``completed`` is ``failed`` if its job raised.

    Args:
        trials: all of them, in the order launched.
        returns: of the batches that came to an end.
    """
    jobs: list[JobReturn | None] = [job for batch in returns for job in batch]
    jobs += [None] * (len(trials) - len(jobs))
    return [_outcome(trial, job) for trial, job in zip(trials, jobs, strict=True)]


def show(records: Sequence[RunRecord], sweep_dir: Path) -> bool:
    """Print the table and write it as CSV, if a trial left a record; tell whether one did."""
    if not any(record.fingerprint for record in records):
        return False
    table = sweep_table(records)
    path = sweep_dir / TABLE
    write_csv(table, path)
    mark = "" if best_row(table) is None else f"* best {table.attrs['objective']}; "
    say(f"\n{format_table(table)}\n\n{mark}unrounded in {path}")
    return True


def _outcome(trial: Trial, job: JobReturn | None) -> RunRecord:
    record = read_record(trial.directory) or unfinished(trial.directory, trial.overrides)
    if job is not None and job.status == JobStatus.FAILED:
        if record.status in ("completed", "running", UNFINISHED):
            # `return_value` would raise it, and print to stderr first
            error = job._return_value
            return replace(record, status="failed", error=f"{type(error).__name__}: {error}")
    elif record.status in ("running", UNFINISHED):
        return replace(record, status=UNFINISHED, error="left no final record")
    return record


def _varying_keys(combinations: Sequence[tuple[str, ...]]) -> set[str]:
    """The keys in which trials differ; all list the same keys in the same order."""
    columns = (column for column in zip(*combinations, strict=True) if len(set(column)) > 1)
    return {parse_overrides(column[:1])[0].key_or_group for column in columns}


def _reasons(error: Exception) -> list[str]:
    """The single problems of an error, without what frames them."""
    from common.help import ADVICE

    if isinstance(error, UserError):
        lines = [line for line in str(error).splitlines() if line != ADVICE]
        problems = [line.strip() for line in lines if line.startswith("  ")]
        return problems or lines
    foreign = re.match(r"Could not override '(.+?)'", str(error))
    return [f"{foreign[1]}: no such key" if foreign else one_line(error)]


def _refusal(reasons: dict[str, list[str]], total: int) -> UserError:
    from common.help import ADVICE

    problems = []
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        where = "" if len(names) == total else f" (trial {names[0]}{more})"
        key, colon, text = reason.partition(": ")
        problems.append(Problem(key, text + where) if colon else Problem("config", reason + where))
    return collect("settings cannot be used; no trial was run", problems, ADVICE)


def _failures(records: Sequence[RunRecord]) -> str:
    """Which trials did not complete, why, and where each one's log is."""
    problems = []
    for record, label in zip(records, trial_labels(records), strict=True):
        if record.status != "completed":
            reason = (record.error or "no reason recorded").strip().partition("\n")[0]
            path = record.directory / RUN_LOG
            see = f"; see {path}" if path.exists() and path.stat().st_size else ""
            problems.append(Problem(label, f"{record.status}: {reason}{see}"))
    what = f"of {len(records)} trials did not complete"
    return str(collect(what, problems, "the table above holds all of them"))

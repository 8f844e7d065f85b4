"""One training, from a composed config to its record. `train.py` calls `run` for every job."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from common.checkpoints import FOLDER, LAST
from common.errors import OutOfMemoryError, RunFailedError
from common.job import Job
from common.lock import locked
from common.record import (
    RunRecord,
    environment,
    fingerprint,
    is_done,
    previous_run,
    read_record,
)
from common.resources import device_name
from common.summary import summary_text

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float | None:
    """Train what Hydra composed, in the directory that Hydra made.

    Returns:
        The objective at its best epoch; None where it is undefined.
    """
    settings = HydraConfig.get()
    return train(
        cfg,
        Path(settings.runtime.output_dir),
        overrides=list(settings.overrides.task),
        trial=settings.mode == RunMode.MULTIRUN,
    )


def train(
    cfg: DictConfig, directory: Path, *, overrides: Sequence[str] = (), trial: bool = False
) -> float | None:
    """Train one model and leave its record, metrics, checkpoints and figures in ``directory``.

    A directory with an unfinished run of the same config continues from its last checkpoint; a
    completed one is left as it is, and so is a paused one that is as far as
    ``trainer.pause_after`` says.

    Args:
        cfg: composed and checked.
        directory: of the run.
        overrides: what made this config, for the record.
        trial: part of a sweep: under ``test=auto`` the test split is not looked at.

    Returns:
        The objective at its best epoch; None where it is undefined.

    Raises:
        UserError: bad input, or ``directory`` holds another run; or, unless ``trial``, another
            process trains there.
        RunFailedError: it did, was waited for, and did not complete.
        DivergedError: the loss is no longer finite.
        OutOfMemoryError: there is not enough memory.
    """
    rank = getattr(rank_zero_only, "rank", 0)
    if rank:
        logging.disable(logging.INFO)  # the first device speaks for all, and holds the directory
    record = _done(cfg, directory)
    if record is None:
        with nullcontext(False) if rank else locked(directory, wait=trial) as waited:
            record = _done(cfg, directory, waited=waited)
            if record is None:
                record = _train(cfg, directory, overrides, trial=trial)
    if not trial:
        log.info(
            "\nrun directory  %s\ncurves         tensorboard --logdir %s", directory, directory
        )
    return record.objective["value"]


def _done(cfg: DictConfig, directory: Path, *, waited: bool = False) -> RunRecord | None:
    """The record of an earlier run that leaves nothing to do.

    Raises:
        RunFailedError: the run that was waited for did not complete.
    """
    record = previous_run(directory, cfg)
    if record is None:
        return None
    if is_done(record, cfg):
        _say(record, cfg, f"{directory} holds this run already, {record.status}\n")
        return record
    if waited and record.is_final:
        raise RunFailedError(record.error)
    return None


def _train(cfg: DictConfig, directory: Path, overrides: Sequence[str], *, trial: bool) -> RunRecord:
    """Begin a run, or go on with one; the directory is held."""
    record = RunRecord.start(
        directory,
        task=cfg.task.name,
        fingerprint=fingerprint(cfg),
        overrides=overrides,
        seed=cfg.seed,
        metric=cfg.objective.metric,
        mode=cfg.objective.mode,
        environment=environment() | {"device": device_name(cfg.trainer.accelerator)},
        cost=_earlier_cost(directory),
    )
    try:
        Job(cfg, directory, record, trial=trial).run()
    except BaseException as error:
        _free(error)
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # Lightning turns Ctrl-C into an exit
        if record.status == "out_of_memory":
            raise OutOfMemoryError(record.error) from error
        raise
    finally:
        torch.use_deterministic_algorithms(False)  # Lightning sets it for the whole process
        gc.collect()  # trainer and module know each other: the next trial's memory
    _say(record, cfg)
    return record


def _say(record: RunRecord, cfg: DictConfig, lead: str = "") -> None:
    if record.status == "completed":  # the first of several devices writes the record
        log.info("%s%s", lead, summary_text(record))
    elif record.status == "paused":
        done, of = record.cost["epochs"], cfg.trainer.max_epochs
        log.info("%spaused after epoch %d of %d", lead, done, of)


def _earlier_cost(directory: Path) -> dict[str, float]:
    """What the part of a run has cost that goes on from its checkpoint, as far as it is known."""
    previous = read_record(directory)
    if previous is None or not (directory / FOLDER / f"{LAST}.ckpt").is_file():
        return {}
    return {key: value for key, value in previous.cost.items() if key == "seconds"}


def _free(error: BaseException | None) -> None:
    """Let go of the tensors that the frames of a failed run hold as long as its error is kept.

    A sweep keeps the errors of its trials; see `traceback.clear_frames`.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__

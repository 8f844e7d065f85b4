"""One training, from a composed config to its record. `train.py` calls `run` for every job."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from phasewise.analysis.validation import run_remarks
from phasewise.config.lifecycle import is_done, lacks_test, own_overrides, start_record
from phasewise.config.previous import OLDER, previous_run
from phasewise.data.resources import device_name
from phasewise.errors import OutOfMemoryError, RunFailedError
from phasewise.records.checkpoints import FOLDER, LAST, remove_last
from phasewise.records.history import read_history
from phasewise.records.lock import locked
from phasewise.records.record import RunRecord
from phasewise.records.summary import summary_text
from phasewise.storage import FREE_MB, check_room, storage_error
from phasewise.training.data_check import show_data
from phasewise.training.failures import status_of
from phasewise.training.isolated import run_isolated
from phasewise.training.memory import (
    LOWERED,
    batch_of,
    free_tensors,
    release_memory,
    remove_leftovers,
    with_batch,
)
from phasewise.training.process import restored_state
from phasewise.training.saving import prepare_resume
from phasewise.training.session import Session

ADVICE = "hydra.run.dir=DIR (hydra.sweep.dir=DIR for a sweep) chooses another place"

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float | None:
    """Train what Hydra composed, in the directory that Hydra made.

    Trials on several devices, and all those of a study with ``study.isolate=true``, have a process
    of their own. Under ``data.check=true`` nothing is trained, see `show_data`.

    Returns:
        The objective at its best epoch; None where it is undefined.
    """
    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    overrides = own_overrides(settings.overrides.task)
    trial = settings.mode == RunMode.MULTIRUN
    if OmegaConf.select(cfg, "data.check"):
        show_data(cfg, directory)
        return None
    if trial and (cfg.trainer.devices > 1 or OmegaConf.select(cfg, "study.isolate")):
        return run_isolated(cfg, directory, overrides)
    return train(cfg, directory, overrides=overrides, trial=trial)


def train(
    cfg: DictConfig, directory: Path, *, overrides: Sequence[str] = (), trial: bool = False
) -> float | None:
    """Train one model and leave its record, metrics, checkpoints and figures in ``directory``.

    A directory with an unfinished run of the same config continues from its last checkpoint; a
    completed one is left as it is, but for a look at the test split that is wanted now and was not
    then; a paused one is left as it is where ``trainer.pause_after`` lies behind it.

    Args:
        cfg: composed and checked.
        directory: of the run.
        overrides: what made this config, for the record.
        trial: part of a sweep: under ``test=auto`` the test split is not looked at.

    Returns:
        The objective at its best epoch; None where it is undefined.

    Raises:
        UserError: bad input; ``directory`` holds another run; it holds a completed one without its
            checkpoint, and a test is wanted; unless ``trial``, another process trains there.
        RunFailedError: it did, was waited for, and did not complete.
        DivergedError: the loss is no longer finite.
        OutOfMemoryError: there is not enough memory.
        StorageError: a disk is full or fails; the run goes on when that is mended.
    """
    rank = getattr(rank_zero_only, "rank", 0)
    if rank:
        logging.disable(logging.INFO)  # the first device speaks for all, and holds the directory
    request = _Request(cfg, directory, overrides, trial)
    record = request.done()
    if record is None:
        with nullcontext(False) if rank else locked(directory, wait=trial) as waited:
            record = request.done(waited=waited) or request.work()
    if not trial:
        curves = shlex.join(["tensorboard", "--logdir", str(directory)])
        log.info("\nrun directory  %s\ncurves         %s", directory, curves)
    return record.objective["value"]


@dataclass
class _Request:
    """What `train` is asked for: what of it is there, and what is still to do."""

    cfg: DictConfig
    directory: Path
    overrides: Sequence[str]
    trial: bool

    def done(self, *, waited: bool = False) -> RunRecord | None:
        """The record of an earlier run that leaves nothing to do.

        Raises:
            RunFailedError: the run that was waited for did not complete.
        """
        record = previous_run(self.directory, self.cfg)
        if record is None:
            return None
        if is_done(record, self.cfg, trial=self.trial):
            self._log_end(record, f"{self.directory} holds this run already, {record.status}\n")
            return record
        if waited and record.is_final and record.status != "completed":
            raise RunFailedError(record.error)
        return None

    def work(self) -> RunRecord:
        """Begin the run, go on with it, or test it if it has completed; the directory is held."""
        directory = self.directory
        previous = previous_run(directory, self.cfg)
        completed = previous is not None and lacks_test(previous, self.cfg, trial=self.trial)
        if previous is not None and "counts" in previous.data and "hash" not in previous.data:
            log.info(OLDER)
        rank = getattr(rank_zero_only, "rank", 0)
        check_room(directory, FREE_MB * 10**6, "logs and records of a run", ADVICE)
        done = 0 if completed else prepare_resume(directory, self.cfg.objective, tidy=not rank)
        record = previous if completed else self._start(previous)
        assert record is not None
        start = time.perf_counter() - record.cost.get("seconds", 0.0)
        while (smaller := self._attempt(record, done)) is not None:
            remove_leftovers(directory)
            done = 0
            record.cost |= {"seconds": time.perf_counter() - start, **batch_of(smaller)}
            record.write()
            log.warning(
                "out of memory: this run begins anew with data.batch_size=%d "
                "trainer.accumulate_grad_batches=%d",
                *batch_of(smaller).values(),
            )
        keeps = OmegaConf.select(self.cfg, "study.checkpoints")
        if self.trial and not rank and record.status == "completed" and keeps not in (None, "all"):
            remove_last(directory)  # a study may have hundreds of them
        self._log_end(record)
        return record

    def _start(self, previous: RunRecord | None) -> RunRecord:
        """The record of a run that begins, or goes on from its checkpoint."""
        cost: dict[str, Any] = {}
        data: dict[str, Any] = {}
        if previous is not None:
            data = previous.data  # which these must be, see `Session`
            goes_on = (self.directory / FOLDER / f"{LAST}.ckpt").is_file()
            kept = ("seconds", *LOWERED) if goes_on else LOWERED if not previous.is_final else ()
            cost = {key: previous.cost[key] for key in kept if key in previous.cost}
        device = device_name(self.cfg.trainer.accelerator)
        return start_record(
            self.cfg, self.directory, self.overrides, device=device, cost=cost, data=data
        )

    def _attempt(self, record: RunRecord, done: int) -> DictConfig | None:
        """What `Session.complete` returns; its memory is given back."""
        used = with_batch(self.cfg, record.cost)
        parts = self.cfg.data.batch_size // used.data.batch_size
        session = Session(used, self.directory, record, trial=self.trial, parts=parts, done=done)
        try:
            with restored_state():
                if record.status != "completed":
                    return session.complete()
                session.test_completed()
                return None
        except BaseException as error:
            status, reason = status_of(error, session.output_directories)
            full = storage_error(error, session.output_directories)
            free_tensors(error)
            if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None  # Lightning turns Ctrl-C into an exit
            if full is not None:
                raise full from error
            if status == "out_of_memory":
                raise OutOfMemoryError(reason if record.error is None else record.error) from error
            raise
        finally:
            session.close()
            del session
            release_memory()

    def _log_end(self, record: RunRecord, lead: str = "") -> None:
        if record.status == "completed":  # the first of several devices writes the record
            log.info("%s%s", lead, summary_text(record))
            if not self.trial:  # of trials the audit tells
                for remark in run_remarks(record, read_history(self.directory)):
                    log.warning(remark)
        elif record.status == "paused":
            done, of = record.cost["epochs"], self.cfg.trainer.max_epochs
            log.info("%spaused after epoch %d of %d", lead, done, of)

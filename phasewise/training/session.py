"""The steps of one training, and what is known of it however it ends."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf

from phasewise.config.fingerprint import file_hashes, named_files
from phasewise.config.identity import remember_identity
from phasewise.config.lifecycle import wants_test
from phasewise.config.previous import data_difference
from phasewise.config.schema import metrics_of
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.facts import about, check_objective
from phasewise.data.resources import reset_peak_memory
from phasewise.errors import StorageError, UserError
from phasewise.figures import curves
from phasewise.records.baselines import BEFORE
from phasewise.records.checkpoints import BEST, FOLDER, LAST
from phasewise.records.history import History
from phasewise.records.record import RunRecord
from phasewise.records.schema import Status
from phasewise.records.steps import cut_steps
from phasewise.training.baselines import resampled_objective, start_scores, trivial_scores
from phasewise.training.build import build_data, build_module
from phasewise.training.callbacks import epochs_without_gain, is_paused
from phasewise.training.checkpoints import read_checkpoint, start_from
from phasewise.training.console import log_data, log_network
from phasewise.training.cost import measured_cost
from phasewise.training.failures import explain, status_of
from phasewise.training.figures import figures, write_figures
from phasewise.training.foreign import (
    data_summary,
    describe_data,
    has_test,
    identity_of,
    network,
)
from phasewise.training.logs import (
    close_loggers,
    hyperparameters,
    log_hyperparameters,
    log_traceback,
    without_lightning_output,
)
from phasewise.training.memory import batch_of, free_tensors, halved, keep_freed_memory, keep_steps
from phasewise.training.module import Scores, TaskModule
from phasewise.training.saving import check_room_for_checkpoints
from phasewise.training.trackers import start_trackers
from phasewise.training.trainer import build_trainer

log = logging.getLogger(__name__)


class Session:
    """The steps of one training, and what is known of it when it ends early.

    Args:
        cfg: composed and checked.
        directory: of the run.
        record: its record, which has begun.
        trial: part of a sweep.
        parts: how many batches of ``cfg`` make one of those that were asked for, see
            `phasewise.training.memory`.
        done: epochs that an earlier call has finished.
    """

    def __init__(
        self,
        cfg: DictConfig,
        directory: Path,
        record: RunRecord,
        *,
        trial: bool,
        parts: int = 1,
        done: int = 0,
    ) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        plain.pop("hydra", None)
        self.cfg = cfg
        self.config: dict[str, Any] = {str(key): value for key, value in plain.items()}
        self.directory = directory
        self.record = record
        self.trial = trial
        self.parts = parts
        self.done = done
        self.files = named_files(self.config)
        self.held = file_hashes(self.files)
        self.history = History(directory)
        self.trainer: L.Trainer | None = None
        self.module: L.LightningModule | None = None
        self.origin: dict[str, Any] = {"config": self.config}
        self.baselines: dict[str, Scores] = {}
        self.test: Scores | None = None
        self.receptive_field: int | None = None
        self.start = time.perf_counter() - record.cost.get("seconds", 0.0)

    def complete(self) -> DictConfig | None:
        """Read, train, evaluate, draw, record; also how the run ended if it ended early.

        A run that is paused is neither evaluated on test data nor drawn.

        Returns:
            Where memory ran out, the config with smaller batches that the run is to begin anew
            with; its record is not finished then.
        """
        try:
            self._work()
        except BaseException as error:
            status, reason = status_of(error, self.output_directories)
            log_traceback(error)
            if status == "out_of_memory" and self.cfg.trainer.auto_accumulate:
                smaller = halved(self.cfg)
                if smaller is not None:
                    free_tensors(error)
                    return smaller
                size = self.cfg.data.batch_size
                reason += f"\nno batch is halved further than data.batch_size={size}"
            # on a full disk the record stays as it was, and that is enough to go on from
            with suppress(StorageError) if status == "interrupted" else nullcontext():
                self._finish(status, reason)
            raise
        return None

    @property
    def output_directories(self) -> list[Path]:
        """Where a run writes."""
        temporary = os.environ.get("TMPDIR") or "/tmp"
        return [self.directory, Path(self.cfg.data.cache_dir), Path(temporary)]

    def test_completed(self) -> None:
        """Look at the test split with what a completed run has kept; its record gains the metrics.

        Raises:
            UserError: the run's checkpoint is gone.
        """
        kept = LAST if self.record.objective["epoch"] is None else BEST
        checkpoint = self.directory / FOLDER / f"{kept}.ckpt"
        log.info("testing the completed run in %s", self.directory)
        try:
            if not checkpoint.is_file():
                raise UserError(f"{checkpoint} is gone: without it this run cannot be tested")
            data = self._begin()
            self._set_up(data, self.record.data.get("hash"))
            module = self._build(data)
            self._start_from()
            self._evaluate_start(data)
            module.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
            if not has_test(data):  # of foreign data, which an older record says nothing of
                self.record.data = {"has_test": False}
                self.record.write()
                return
            with without_lightning_output():
                self._test(data)
            self._draw(data, "test")
        except BaseException as error:
            log_traceback(error)
            raise
        assert self.trainer is not None
        if self.trainer.is_global_zero:
            for name, scores in self.baselines.items():
                self.record.baselines.setdefault(name, {}).update(scores)
            self.record.test = self.test
            self.record.write()

    def close(self) -> None:
        """End the loggers: what they hold is written, and they do not outlive the run."""
        if self.trainer is not None and self.trainer.is_global_zero:
            well = self.record.status in ("completed", "paused")
            close_loggers(self.trainer.loggers, "success" if well else "failed")

    def _begin(self) -> L.LightningDataModule:
        """The trainer, and the data, not yet read."""
        L.seed_everything(self.config["seed"], verbose=False)
        reset_peak_memory()
        keep_freed_memory()
        with without_lightning_output():
            self.trainer = build_trainer(  # first: it knows devices and trackers
                self.config, self.record.task, self.directory, self.history, self.origin
            )
            start_trackers(self.trainer.loggers, self.config)
        self._note_precision(str(self.trainer.precision))
        data = build_data(self.config)
        if isinstance(data, StoreDataModule):
            data.parts = self.parts
        return data

    def _note_precision(self, used: str) -> None:
        """What the run computes in; not always what was asked for, see `used_precision`."""
        self.record.environment["precision"] = used
        asked = self.config["trainer"]["precision"]
        if asked not in ("auto", used):
            self.record.environment["precision_asked"] = asked
            log.warning("trainer.precision=%s: wants a GPU; this run computes in %s", asked, used)

    def _build(self, data: L.LightningDataModule) -> L.LightningModule:
        self.origin["info"] = describe_data(data)
        module = build_module(self.config, self.origin["info"])
        self.module = module
        mode = self.config["trainer"]["compile"]
        if mode != "none":  # in place: its weights keep their names
            network(module).compile(mode=mode)
        return module

    def _work(self) -> None:
        data = self._begin()
        assert self.trainer is not None
        self._read(data)
        if self.parts > 1 and isinstance(data, StoreDataModule):
            keep_steps(self.trainer, data, self.parts)
        if isinstance(data, StoreDataModule):
            data.overfit_batches = self.config["trainer"].get("overfit_batches", 0)
        self.module = self._build(data)
        if isinstance(self.module, TaskModule):
            self.record.notes = self.module.report_notes()
        self.receptive_field = log_network(self.module, self.config)
        self._start_from()
        self._check_files()
        copies = self.module.finetuning.copies if isinstance(self.module, TaskModule) else 0
        optimizer = self.config["optimizer"]
        check_room_for_checkpoints(self.directory, self.module, optimizer, copies=copies)
        if self.config["trainer"].get("fast_dev_run"):
            self._try_out(data)
            return
        self._evaluate_baselines(data, "val")
        self._evaluate_start(data)
        with without_lightning_output():
            self._fit(data)
            if is_paused(self.trainer):
                self._finish("paused")
                return
            self._restore_best()
            metric = self.config["objective"]["metric"]
            self.record.resampled = resampled_objective(self.trainer, self.module, data, metric)
            if wants_test(self.cfg, trial=self.trial) and has_test(data):
                self._test(data)
        self._draw(data, "val", "test")
        self._finish("completed")

    def _try_out(self, data: L.LightningDataModule) -> None:
        """``trainer.fast_dev_run``: a few batches of each split, without a result."""
        assert self.trainer is not None
        with without_lightning_output():
            self._fit(data)
            if has_test(data):
                self.trainer.test(self.module, datamodule=data, verbose=False)
        self._finish("completed")

    def _read(self, data: L.LightningDataModule) -> None:
        before = self.record.data.get("hash")
        try:
            self._set_up(data, before)
        finally:  # what was found wrong with it is also worth a record
            if (found := data_summary(data)) is not None:
                self.record.data = found.as_dict()
            elif not isinstance(data, StoreDataModule):
                self.record.data = {"has_test": has_test(data)}
        if isinstance(data, StoreDataModule):
            self.record.data |= about(data)
            remember_identity(self.config["data"], data)
        self.record.write()
        log_data(found, data, self.config["data"])
        if isinstance(data, StoreDataModule):
            facts = self.record.data["facts"]["val"]
            check_objective(data, facts, self.config["objective"]["metric"], metrics_of(self.cfg))

    def _set_up(self, data: L.LightningDataModule, before: str | None) -> None:
        """Read the data; go on with those that the run began with only, which may have changed this
        very moment."""
        if isinstance(data, StoreDataModule):  # others are set up by Lightning
            data.setup()
        found = identity_of(data)
        if before is not None and found is not None and before != found.hash:
            what = data_difference(self.record, self.cfg, found)
            raise UserError(f"{self.directory}: {what}; hydra.run.dir=DIR begins anew elsewhere")

    def _start_from(self) -> None:
        origin = self.config["init_from"]
        if origin is not None and self.module is not None:
            start_from(network(self.module), origin, self.config["model"])
            if isinstance(self.module, TaskModule):
                self.module.came = "network"
            log.info("         starting from the weights of %s", origin)

    def _check_files(self) -> None:
        """Weights that were read are those that the record's fingerprint is of."""
        now = file_hashes(self.files)
        if changed := [name for name, held in self.held.items() if now.get(name) != held]:
            what = "changed while it was read; try again when nothing writes there"
            raise UserError(f"{' and '.join(changed)}: {what}")

    def _evaluate_start(self, data: L.LightningDataModule) -> None:
        """The network before training, on every split that the trained one is judged by."""
        assert self.trainer is not None
        tested = wants_test(self.cfg, trial=self.trial) and has_test(data)
        splits = ("val", "test") if tested else ("val",)
        started = self.config["init_from"] is not None
        found = start_scores(self.trainer, self.module, data, splits, from_run=started)
        if found:
            self.baselines[BEFORE] = found

    def _evaluate_baselines(self, data: L.LightningDataModule, split: str) -> None:
        assert self.trainer is not None
        for name, scores in trivial_scores(self.trainer, self.module, data, split).items():
            self.baselines.setdefault(name, {}).update(scores)

    def _fit(self, data: L.LightningDataModule) -> None:
        assert self.trainer is not None
        assert self.module is not None
        self.history.cut(self.done)
        if self.trainer.is_global_zero:
            cut_steps(self.directory, int(self.history.rows[-1]["step"]) if self.done else 0)
        checkpoint = None
        if self.done:
            checkpoint = self.directory / FOLDER / f"{LAST}.ckpt"
            log.info("continuing after epoch %d of an unfinished run", self.done)
        log.info("")
        try:
            self.trainer.fit(self.module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except Exception as error:
            if (known := explain(error, self.config, data)) is not None:
                raise known from error
            raise

    def _restore_best(self) -> None:
        best = self.directory / FOLDER / f"{BEST}.ckpt"
        assert self.module is not None
        if (row := self._best()) is not None:
            content = read_checkpoint(best)
            if content["epoch"] + 1 != row["epoch"]:
                raise UserError(
                    f"{best} is not of epoch {row['epoch']}, the best: was it replaced?"
                )
            self.module.load_state_dict(content["state_dict"])

    def _test(self, data: L.LightningDataModule) -> None:
        assert self.trainer is not None
        (scores,) = self.trainer.test(self.module, datamodule=data, verbose=False)
        self.test = {name: float(value) for name, value in scores.items()}
        self._evaluate_baselines(data, "test")

    def _best(self) -> dict[str, float] | None:
        return self.history.best_of(self.config["objective"])

    def _draw(self, data: L.LightningDataModule, *splits: str) -> None:
        """Figures of splits, and of the epochs beside those of validation data."""
        assert self.trainer is not None
        if "test" in splits and self.test is None:
            splits = tuple(split for split in splits if split != "test")
        count = self.config["figures"]["images"]
        if not count or not self.trainer.is_global_zero:
            return
        assert self.module is not None
        self.module.to(self.trainer.strategy.root_device)
        pictures = figures(self.module, data, splits, count, self.trainer)
        if "val" in splits:
            found = curves(self.history.rows, self.config["objective"], self._best())
            pictures = chain(pictures, [("curves", found)] if found is not None else [])
        write_figures(pictures, self.directory / "figures", self.trainer)
        if isinstance(self.module, TaskModule):
            shares = self.module.measured_shares()
            self.record.notes = self.record.notes.with_shares(shares)

    def _finish(self, status: Status, error: str | None = None) -> None:
        if self.trainer is not None and not self.trainer.is_global_zero:
            return
        rows, best = self.history.rows, self._best()
        objective = self.config["objective"]
        dev_run = self.config["trainer"].get("fast_dev_run")
        if status == "completed" and dev_run:
            log.info("trainer.fast_dev_run: all runs; no checkpoint and no result is kept")
        elif status == "completed" and best is None:
            log.warning(
                "%s is undefined in every epoch (no validation sample has what it measures); "
                "objective.metric chooses another one. The last epoch's weights are kept.",
                objective["metric"],
            )
        self.record.headline = [*getattr(self.module, "headline", ())]
        if status == "completed" and self.trainer is not None:
            metrics = {f"best/{k}": v for k, v in _metrics(best).items() if k.count("/") == 1}
            shown = {f"best/{objective['metric']}"}
            shown |= {f"best/val/{name}" for name in self.record.headline}
            settings = hyperparameters(self.config, self.record.overrides, self.directory)
            log_hyperparameters(self.trainer.loggers, settings, metrics, shown)
        self.record.finish(
            status,
            error=error,
            value=None if best is None else best[objective["metric"]],
            epoch=None if best is None else int(best["epoch"]),
            best=_metrics(best),
            last=_metrics(rows[-1] if rows else None),
            test=self.test,
            baselines=self.baselines,
            cost=self._cost(),
        )

    def _cost(self) -> dict[str, Any]:
        dev_run = self.config["trainer"].get("fast_dev_run")
        in_vain = None if self.trainer is None else epochs_without_gain(self.trainer)
        return {
            "seconds": time.perf_counter() - self.start,
            **({"epochs_without_gain": in_vain} if in_vain is not None else {}),
            **measured_cost(self.directory, self.history.rows, self.module, self.trainer),
            **({"receptive_field": self.receptive_field} if self.receptive_field else {}),
            **(batch_of(self.cfg) if self.parts > 1 else {}),
            **({"fast_dev_run": dev_run} if dev_run else {}),
        }


def _metrics(row: dict[str, float] | None) -> dict[str, float]:
    return {} if row is None else {key: value for key, value in row.items() if "/" in key}

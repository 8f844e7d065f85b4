"""Writes the record of any training loop: ``with Recorder(...) as run: run.log(...)``.

Needs neither torch nor Hydra. Inside a job of Hydra's it takes directory, overrides, seed and
fingerprint from there, and from what phasewise's sweeper has told, so that the loop is a trial of
its study.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from difflib import get_close_matches
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal

from phasewise.errors import SHOWN, DivergedError, StorageError, UserError
from phasewise.memory import process_peak_mb, reset_process_peak
from phasewise.records.ending import status_of
from phasewise.records.history import COUNTS, History, Row, read_history
from phasewise.records.job import Job, find_job
from phasewise.records.lock import holds, locked
from phasewise.records.record import RunRecord, environment, read_record
from phasewise.records.schema import Status

NO_METRICS = (*COUNTS, "seconds", "lr")
"""Columns of ``metrics.csv`` that say when and how, not how well."""

LOSSES = ("train/loss", "val/loss")
"""A run in which one of these is no longer finite has diverged."""

RESULT = "result"
"""The objective of a study that names none: what the function of its jobs returns."""

NOTHING = {"value": None, "epoch": None}
"""Of the objective, before an epoch has one."""

log = logging.getLogger(__name__)


class Recorder:
    """One run of a training loop: ``record.json`` and ``metrics.csv`` in its directory.

    The record says ``running`` from the first line on; ``completed`` when the block is left;
    ``failed``, ``out_of_memory``, ``diverged`` or ``interrupted``, with the reason, when an error
    leaves it. The error is passed on. A process that is killed leaves ``running``, and its epochs.

    Args:
        directory: of the run. None: that of Hydra's job; without one, it must be given.
        objective: the metric that the run is judged by, as it is logged: ``val/acc``. In a trial of
            a study the study's goes before it; None is enough there.
        mode: ``max`` or ``min``: which of its values is the best; None is ``max``. The study's goes
            before it, too.
        config: settings of the run, possibly nested, where it is no job of Hydra's: they are its
            overrides in reports, and with the seed they are what it computes: a directory with a
            completed run of the same ones says so (see ``done``), one with a run of others is
            refused. Without them, a run replaces what is there.
        seed: of its random numbers; None takes ``seed`` of the config.
        task: what reports call the application; None: the name of the script.

    Attributes:
        record: as it was last written.
        objective: what it is judged by, as it is logged.
        is_open: whether it has begun and not ended.
        done: whether the directory holds a completed run of the same settings. A loop that asks may
            leave at once, and the record stays; one that logs replaces it.

    Raises:
        UserError: on entering, where there is no directory or objective, another process works in
            the directory, or it holds a run of other settings; on leaving, where the objective was
            never logged.
        StorageError: its disk is full or fails.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Recorder(folder, objective="val/acc", config={"lr": 0.1}, seed=0) as run:
        ...     for epoch in (1, 2, 3):
        ...         run.log({"val/acc": 1 - 1 / epoch}, epoch=epoch)
        ...     run.cost(parameters=12)
        >>> run.record.status, run.best["epoch"], round(run.value, 2)
        ('completed', 3, 0.67)
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        objective: str | None = None,
        mode: Literal["max", "min"] | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        task: str | None = None,
    ) -> None:
        if mode not in (None, "max", "min"):
            raise UserError(f"mode={mode}: must be max or min")
        self._asked = directory, objective, mode
        self.objective = objective or ""
        self._config, self._seed, self._task = config, seed, task
        self._stack = ExitStack()
        self.is_open = self._begun = False
        self._kept = 0.0
        self._cost: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._baselines: dict[str, dict[str, float]] = {}
        self._files: dict[str, str] = {}
        self._headline: list[str] = []
        self._test: dict[str, float] | None = None
        self.done = False
        self.record: RunRecord
        self.history: History

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.fail(error)

    def start(self) -> None:
        """Begin, as ``with`` does; `finish` or `fail` must follow."""
        job, told = find_job(self._asked[0], self._config, self._seed)
        assert job.directory is not None
        directory, objective, mode = job.directory, *self._asked[1:]
        if told is not None:
            objective, mode = told.objective["metric"], told.objective["mode"]
            if objective != RESULT or not self.objective:
                self.objective = objective
        if objective is None:
            raise UserError("Recorder: objective=METRIC must say by which metric runs are judged")
        if not holds(directory):
            self._stack.enter_context(locked(directory, wait=False))
        try:
            before = read_record(directory)
            self.done = self._is_done(before, job)
            self.history = History(directory)
            self.record = RunRecord(
                directory,
                task=self._task or (told.task if told else job.task),
                fingerprint=job.fingerprint or "0" * 16,
                overrides=job.overrides,
                seed=job.seed,
                objective={
                    "metric": objective,
                    "mode": mode or "max",
                    "value": None,
                    "epoch": None,
                },
                environment=told.environment if told else environment(),
                study=told.study if told else {},
                data=told.data if told else {},
            )
            if self.done:
                assert before is not None
                self.record = before
                log.info("%s holds this run already, completed", directory)
            else:
                self.record.write()
        except BaseException:
            self._stack.close()
            raise
        reset_process_peak()
        self.is_open, self._begun = True, False
        self._start = self._last = time.perf_counter()

    def log(
        self,
        metrics: Mapping[str, Any] | None = None,
        /,
        *,
        epoch: int | None = None,
        **more: Any,
    ) -> None:
        """Write an epoch's metrics; what is logged of one epoch in several calls is one row.

        The first call decides what is kept of an unfinished run: the epochs before its own.

        Args:
            metrics: numbers by name, ``val/acc``: NumPy's and torch's scalars too; NaN where one is
                undefined, which is never the best.
            epoch: counted from 1; None: the one after the last.
            more: as ``metrics``.

        Raises:
            UserError: a value is no number, or the epoch is before the last.
            DivergedError: ``train/loss`` or ``val/loss`` is not finite; the row is written.
        """
        values = {str(k): _number(k, it) for k, it in {**(metrics or {}), **more}.items()}
        values |= {name: int(values[name]) for name in COUNTS if name in values}
        if not self._begun:
            self._begin(1 if epoch is None else epoch)
        rows = self.history.rows
        last = int(rows[-1]["epoch"]) if rows else 0
        number = last + 1 if epoch is None else int(epoch)
        if number < max(last, 1):
            raise UserError(f"Recorder.log(epoch={epoch}): the last one was {last}; from 1 upwards")
        now = time.perf_counter()
        if number == last:
            row = rows.pop()
            seconds = row["seconds"] + now - self._last
            row |= {"seconds": round(seconds, 3)} | values
        else:
            row = {"epoch": number, "seconds": round(now - self._last, 3)} | values
        self._last = now
        self.history.append(row)
        for name in LOSSES:
            if not math.isfinite(values.get(name, 0.0)):
                raise DivergedError(f"{name} became {values[name]} in epoch {number}")

    def cost(self, **numbers: float | int | bool | None) -> None:
        """What the run has cost besides time and memory: ``parameters=...``."""
        self._cost |= numbers

    def test(self, metrics: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Metrics of the test split: ``test/acc``. Of a run that has ended, or that an earlier
        process has completed (see ``done``), they are added to the record."""
        found = {str(k): _number(k, it) for k, it in {**(metrics or {}), **more}.items()}
        self._test = {**(self._test or {}), **found}
        if not self.is_open or (self.done and not self._begun):
            self.record.test = {**(self.record.test or {}), **self._test}
            self.record.write()

    def data(self, **facts: Any) -> None:
        """What is known of the data: ``counts={"train": 60000, "val": 5000}``, ``hash="..."``;
        runs on data of different hashes are not taken for the same."""
        self._data |= facts

    def baseline(self, name: str, metrics: Mapping[str, Any]) -> None:
        """What a trivial predictor (``majority``) scores on the same data: a run that is no better
        has learned nothing, as the audit says then."""
        self._baselines[name] = {str(k): _number(k, it) for k, it in metrics.items()}

    def checkpoints(self, **files: str | Path) -> None:
        """Where weights lie: ``best="checkpoints/best.ckpt"``; relative to the directory, if they
        lie in it."""
        place = self.record.directory.absolute()
        for name, file in files.items():
            path = (place / file).absolute()
            inside = path.is_relative_to(place)
            self._files[name] = path.relative_to(place).as_posix() if inside else str(path)

    def headline(self, *names: str) -> None:
        """The metrics that tables show first, without their split: ``acc``."""
        self._headline = list(names)

    @property
    def rows(self) -> list[Row]:
        """The epochs so far: none before the first is logged, but where the run is ``done``."""
        return self.history.rows if self._begun or self.done else []

    @property
    def best(self) -> Row | None:
        """The row with the best objective; None while none is defined."""
        return self._best_of(self.rows)

    def _best_of(self, rows: list[Row]) -> Row | None:
        return self.history.best(self.objective, self.record.objective["mode"]) if rows else None

    @property
    def value(self) -> float:
        """The best objective; NaN while none is defined. What a job of Hydra's may return."""
        row = self.best
        return math.nan if row is None else row[self.objective]

    def finish(self, status: Status = "completed", error: str | None = None) -> None:
        """End the run, as leaving ``with`` does.

        Args:
            status: how it ended.
            error: why it did not complete.

        Raises:
            UserError: it has completed, and its objective was never logged.
        """
        missing = None
        self.is_open = False
        try:
            if self.done and not self._begun:
                return
            if status == "completed" and (missing := self._missing()):
                status, error = "failed", missing
            self._write(status, error)
        finally:
            self._stack.close()
        if missing:
            raise UserError(missing)

    def fail(self, error: BaseException) -> None:
        """End the run with the error that stopped it."""
        status, reason = status_of(error, [self.record.directory])
        # a full disk: the record stays as it was, and that is enough to go on from
        with suppress(StorageError):
            self.finish(status, reason)

    def _is_done(self, before: RunRecord | None, job: Job) -> bool:
        """Whether ``before`` is this run, completed.

        Raises:
            UserError: it is another run's, with epochs that would be lost.
        """
        if before is None or not job.fingerprint:
            return False
        if before.fingerprint == job.fingerprint:
            return before.status == "completed"
        if (
            before.status == "completed"
            or before.cost.get("epochs")
            or read_history(before.directory)
        ):
            there = " ".join(before.overrides) or "the defaults"
            raise UserError(
                f"{before.directory}: holds a run of other settings ({there})\n"
                "another directory is needed, or that one must be moved away"
            )
        return False

    def _begin(self, first: int) -> None:
        """The first epoch is here: those of an earlier run that come before it are kept."""
        self._begun = True
        self.history.rows = [row for row in self.history.rows if row["epoch"] < first]
        self._kept = sum(row.get("seconds", 0.0) for row in self.history.rows)
        if self.done:  # it is computed anew
            self.record.status, self.record.test = "running", None
            self.record.write()

    def _missing(self) -> str | None:
        """Why a run that has come to its end has no objective."""
        metric = self.objective
        names = [name for row in self.rows for name in row if name not in NO_METRICS]
        if metric in names:
            return None
        if not names:
            return f"{metric}, the objective, was never logged; nothing else was either"
        near = get_close_matches(metric, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        shown = ", ".join([*dict.fromkeys(names)][:SHOWN])
        return f"{metric}, the objective, was never logged, but {shown}{hint}"

    def _write(self, status: Status, error: str | None) -> None:
        rows = self.history.rows  # of an unfinished run those before, if no epoch was done here
        best = self._best_of(rows)
        seconds = self._kept + time.perf_counter() - self._start
        lengths = [row["seconds"] for row in rows if "seconds" in row]
        cost = {
            "seconds": seconds,
            "seconds_per_epoch": median(lengths) if lengths else None,
            "peak_memory_mb": process_peak_mb(),
            "epochs": len(rows),
        }
        self.record.headline, self.record.checkpoints = self._headline, self._files
        self.record.finish(
            status,
            error=error,
            value=None if best is None else best[self.objective],
            epoch=None if best is None else int(best["epoch"]),
            best=metrics_of_row(best),
            last=metrics_of_row(rows[-1] if rows else None),
            test=self._test,
            baselines=self._baselines,
            cost=cost | self._cost,
            data=self.record.data | self._data,
        )


def metrics_of_row(row: Row | None) -> dict[str, float]:
    """Of an epoch; none of no epoch."""
    return {} if row is None else {k: value for k, value in row.items() if k not in NO_METRICS}


def _number(name: object, value: Any) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{name}={value!r:.60}: a metric must be one number") from None

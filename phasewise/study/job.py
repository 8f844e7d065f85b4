"""A job of an application that is not this project's: its function, with a record around it."""

from __future__ import annotations

import logging
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from phasewise.errors import UserError
from phasewise.records.current import recording
from phasewise.records.ending import status_of
from phasewise.records.lock import locked
from phasewise.records.record import DATA_MARK, RunRecord, environment, read_record
from phasewise.records.schema import Status

SHOWN = 8
"""So many names of metrics are listed."""

FUNCTION = "function"
"""In the environment of a record: which function of another application ran."""

TEST = "test/"
"""How names of metrics of test data begin: nothing is selected by them."""

_COLOURS = re.compile(r"\x1b\[[\d;]*m")

log = logging.getLogger(__name__)


SIGNALS = 128
"""An exit code above tells of a signal, after which nothing is to go on."""


class LeftEarly(RuntimeError):
    """A function has ended the process instead of returning a result."""


class UnusableResult(UserError):
    """What a function returned can be no objective; the next trial would return the same kind."""


@dataclass(frozen=True)
class PlannedJob:
    """What the record of a job says that only its study knows; see `RunRecord`."""

    fingerprint: str
    overrides: list[str]
    seed: int | None
    objective: Mapping[str, str]
    study: Mapping[str, Any]


@dataclass
class RecordedJob:
    """Calls an application's function and writes the record of what came of it.

    A record that the function has finished itself (`phasewise.records.Recorder` and what builds on
    it) goes first.

    Attributes:
        function: the application's.
        name: of the application.
        plans: of the jobs to come, by their directories below the study's.
        own_study: whether a key ``study`` is the application's own.
    """

    function: Callable[[DictConfig], Any]
    name: str
    plans: dict[str, PlannedJob] = field(default_factory=dict)
    own_study: bool = False

    def __call__(self, config: DictConfig) -> Any:
        """Run one job; what it returns or raises is passed on.

        Raises:
            UnusableResult: it returned no number where one is needed.
        """
        hydra = HydraConfig.get()
        plan = self.plans.get(str(hydra.sweep.subdir))
        if "study" in config and not self.own_study:  # which the function has never heard of
            with read_write(config), open_dict(config):
                del config["study"]
        if plan is None:
            return self.function(config)
        directory = Path(hydra.runtime.output_dir)
        with locked(directory, wait=True):
            return self._recorded(config, directory, plan)

    def _recorded(self, config: DictConfig, directory: Path, plan: PlannedJob) -> Any:
        record = RunRecord.start(
            directory,
            task=self.name,
            fingerprint=plan.fingerprint.partition(DATA_MARK)[0],
            overrides=plan.overrides,
            seed=plan.seed,
            metric=plan.objective["metric"],
            mode=plan.objective["mode"],
            environment=environment() | {FUNCTION: self._function_name()},
            study=plan.study,
        )
        start = time.perf_counter()
        try:
            with recording(record):
                value = self._called(config, directory)
            own = read_record(directory)
            if own is None or own.status == "running":
                metrics = metrics_of_result(value, plan.objective["metric"])
                self._complete(record, metrics, time.perf_counter() - start)
        except BaseException as error:
            own = read_record(directory)
            if own is None or own.status == "running":
                status, reason = _ending(error, directory)
                seconds = {"seconds": time.perf_counter() - start}
                record.finish(status, error=reason, cost=seconds)
            if not isinstance(error, UserError | KeyboardInterrupt):
                log.error("%s", traceback.format_exc().rstrip())
            raise
        return value

    def _called(self, config: DictConfig, directory: Path) -> Any:
        """What the function returns; the other jobs of this process go on where they began.

        Raises:
            LeftEarly: it has called ``sys.exit``; that would end the whole study, with success if
                it says so.
        """
        here = Path.cwd()
        try:
            return self.function(config)
        except SystemExit as stop:
            if isinstance(stop.code, int) and stop.code > SIGNALS:
                raise
            own = read_record(directory)
            if not stop.code and own is not None and own.status == "completed":
                return None
            code = "" if stop.code is None else repr(stop.code)
            raise LeftEarly(f"sys.exit({code}) before there was a result") from stop
        finally:
            os.chdir(here)

    def _function_name(self) -> str:
        names = [getattr(self.function, key, None) for key in ("__module__", "__qualname__")]
        return ".".join(name for name in names if name) or type(self.function).__name__

    @staticmethod
    def _complete(record: RunRecord, metrics: Mapping[str, float], seconds: float) -> None:
        value = metrics[record.objective["metric"]]
        chosen = {key: it for key, it in metrics.items() if not key.startswith(TEST)}
        shown = [key for key in chosen if not key.startswith("train/")]
        record.headline = [key.removeprefix("val/") for key in shown]
        record.finish(
            "completed",
            value=value if math.isfinite(value) else None,
            best=chosen,
            last=chosen,
            test={key: it for key, it in metrics.items() if key.startswith(TEST)} or None,
            cost={"seconds": seconds},
        )


def metrics_of_result(value: Any, objective: str) -> dict[str, float]:
    """The metrics that a function has returned: a number, which is the objective, or a mapping.

    Args:
        value: what it returned; scalars of NumPy and torch are numbers.
        objective: the name of the one that decides.

    Raises:
        UnusableResult: there is no such number.
    """
    if OmegaConf.is_dict(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        found = {str(key): _number(one) for key, one in value.items()}
        metrics = {key: one for key, one in found.items() if one is not None}
        if objective in metrics:
            return metrics
        names = ", ".join([*metrics][:SHOWN]) or "nothing that is a number"
        what = "is no number" if objective in found else "is not among what the function returned"
        raise UnusableResult(
            f"study.objective={objective} {what}: it returned {names}\n"
            "study.objective=NAME chooses one of them"
        )
    number = _number(value)
    if number is None:
        kind = "nothing" if value is None else f"{value!r:.60} ({type(value).__name__})"
        raise UnusableResult(
            f"the function returned {kind}: a study needs a number, a mapping of names to numbers, "
            "or a record (see phasewise.records.Recorder)"
        )
    return {objective: number}


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):  # several values, or no number
        return None


def _ending(error: BaseException, directory: Path) -> tuple[Status, str]:
    status, reason = status_of(error, [directory])
    if isinstance(error, UnusableResult):  # naming another objective mends it: the job runs again
        status = "interrupted"
    return status, _COLOURS.sub("", reason)

"""What a study has to know of the application whose jobs are its trials.

Two kinds: this project's own, whose config has a schema and whose runs write their records
themselves, and any other one that Hydra starts. Of that nothing is asked but what its function
returns; see `docs/any-application.md`.
"""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from phasewise.config.fingerprint import fingerprint, named_files, plain_config
from phasewise.config.foreign import (
    CODE,
    code_files,
    foreign_difference,
    foreign_fingerprint,
    plain_foreign,
)
from phasewise.config.foreign import named_files as foreign_files
from phasewise.config.help import nearest_key, settings_error
from phasewise.config.identity import data_key
from phasewise.config.previous import listed, settings_difference
from phasewise.config.signatures import is_foreign
from phasewise.errors import Problem, UserError
from phasewise.records.record import RunRecord
from phasewise.study.job import TEST, PlannedJob, RecordedJob
from phasewise.study.trial_job import TrialJob

RESULT = "result"
"""The name of an objective that a function returns as a bare number."""

GOAL = "study.objective"
"""Part of what a run is: its record has the value of one objective."""

GOALS = {"metric": "objective", "mode": "mode"}

SWEEPER_SECTION = "hydra.sweeper.study"
"""Where ``study:`` stands if the application's config can have no such section."""

_NOW = re.compile(r"[^/]*\$\{now:")


@dataclass(frozen=True)
class Identified:
    """What a valid config computes.

    Attributes:
        fingerprint: of the config.
        data: the section that says which data it reads, and its key; none where nobody knows.
        files: texts of it that may name files, which count by their content.
    """

    fingerprint: str
    data: tuple[str, dict[str, Any]] | None
    files: tuple[str, ...]


class Application:
    """This project's own scripts.

    Args:
        config: what Hydra composed for the sweep as a whole.

    Attributes:
        name: of what is trained, in records and reports.
        seed_key: the key that repeats; None where the application has none.
        seed: its value if no study says another one.
        budget: which of the study's budgets.
        tests: whether test data are looked at in the end.
        writes_records: whether its runs do, and keep weights that a study may remove.
        around: how words begin that concern a study and not its trials.
    """

    writes_records = True
    around: tuple[str, ...] = ("study.", "budget=", "init_study=", "hydra.")

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.name = str(config.task.name)
        self.seed_key: str | None = "seed"
        self.seed = int(config.seed)
        self.budget = str(config.budget)
        self.tests = config.test is not False

    @property
    def section(self) -> dict[str, Any]:
        """``study:`` as it was written; ``${...}`` in a phase is for its trials' configs."""
        found = OmegaConf.to_container(self.config.study, resolve=False)
        assert isinstance(found, dict)
        return {str(key): value for key, value in found.items()}

    @property
    def objective(self) -> dict[str, str]:
        """``metric`` and ``mode``."""
        own = self.config.objective
        return {"metric": str(own.metric), "mode": str(own.mode)}

    @property
    def metrics(self) -> Mapping[str, str]:
        """Names of all metrics with their modes; none where they are not known beforehand."""
        from phasewise.config.schema import metrics_of  # pydantic takes a while

        return metrics_of(self.config)

    @property
    def known_metrics(self) -> Mapping[str, str] | None:
        """``metrics``; ``None`` where a module of somebody's own logs what it likes."""
        module = OmegaConf.select(self.config, "task.module._target_")
        return None if module and is_foreign(module) else self.metrics

    @property
    def fractions(self) -> Collection[str]:
        """Metrics that are in [0, 1]."""
        from phasewise.config.schema import fractions_of

        return fractions_of(self.config)

    def swept(self, arguments: Sequence[str]) -> list[str]:
        """The words of a command line that make trials, without those for the study around them."""
        return [word for word in arguments if not word.lstrip("+~").startswith(self.around)]

    def check(self, config: DictConfig) -> None:
        """See that a trial's config can be used.

        Raises:
            UserError: all that is wrong with it.
        """
        from phasewise.config.schema import check_config

        check_config(config)

    def identify(self, config: DictConfig) -> Identified:
        """What a valid config computes."""
        plain = plain_config(config)
        files = tuple(it.path for it in named_files(plain) if not it.is_code)
        data = data_key(plain["data"]), plain["data"]
        return Identified(fingerprint(plain), data, files)

    def difference(self, record: RunRecord, config: DictConfig) -> str:
        """In what settings a run and a trial's config differ, for people."""
        return settings_difference(record, config)

    def objective_words(self, objective: Mapping[str, str]) -> list[str]:
        """The overrides that make trials go by another objective than the config's."""
        return [f"objective.{key}={value}" for key, value in objective.items()]

    def launched(self, jobs: Sequence[TrialJob], more: Sequence[str]) -> list[list[str]]:
        """The overrides that a launcher is given for each job.

        Args:
            jobs: the trials.
            more: what concerns this launch only.
        """
        return [job.launched_as(more) for job in jobs]


class HydraApplication(Application):
    """Any other application: its config, its function and its code are not changed.

    Args:
        config: what Hydra composed for the sweep as a whole.
        launcher: runs its function, which is wrapped so that each job leaves a record.

    Attributes:
        own_study: whether a key ``study`` is its own, for the section stands at `SWEEPER_SECTION`.

    Raises:
        UserError: the section ``study`` lacks what only it can say.
    """

    writes_records = False
    around: tuple[str, ...] = ("study.", "hydra.")

    def __init__(self, config: DictConfig, launcher: Launcher | None = None) -> None:
        self.config = config
        self.name = str(config.hydra.job.name)
        self.own_study = bool(OmegaConf.select(config, SWEEPER_SECTION))
        if self.own_study:
            self.around = ("hydra.",)
        own = self.section
        self.budget = str(own.get("budget") or "full")
        self.tests = True  # nothing is run for it: jobs have test metrics, or have none
        self.ignored = [str(key) for key in own.get("ignore") or []]
        self.seed_key = self._seed_key(own)
        seed = None if self.seed_key is None else OmegaConf.select(config, self.seed_key)
        self.seed = seed if isinstance(seed, int) else 0
        self._objective = self._goal(own)
        self._code: list[str] = []
        self._job: RecordedJob | None = None
        if launcher is not None:
            self._wrap(launcher)

    @property
    def section(self) -> dict[str, Any]:
        """``study:``, or what stands under `SWEEPER_SECTION`."""
        for place in (SWEEPER_SECTION, "study"):
            found = OmegaConf.select(self.config, place)
            if isinstance(found, DictConfig) and found:
                plain = OmegaConf.to_container(found, resolve=False)
                assert isinstance(plain, dict)
                return {str(key): value for key, value in plain.items()}
        return {}

    @property
    def objective(self) -> dict[str, str]:
        """``study.objective`` and ``study.mode``."""
        return dict(self._objective)

    @property
    def metrics(self) -> Mapping[str, str]:
        """Not known before the first trial."""
        return {}

    @property
    def known_metrics(self) -> Mapping[str, str] | None:
        """Not known either."""
        return None

    @property
    def fractions(self) -> Collection[str]:
        """Not known."""
        return ()

    def check(self, config: DictConfig) -> None:
        """Nothing is known of it."""

    def identify(self, config: DictConfig) -> Identified:
        """All of its config counts; which data it reads nobody knows."""
        plain = plain_foreign(config, self.ignored, own_study=self.own_study)
        code = [] if CODE in self.ignored else [*self._code, *code_files(plain)]
        found = foreign_fingerprint({**plain, GOAL: self._objective}, code)
        return Identified(found, None, tuple(foreign_files(plain)))

    def difference(self, record: RunRecord, config: DictConfig) -> str:
        """Keys with both values; else the code or a file has changed."""
        plain = plain_foreign(config, self.ignored, own_study=self.own_study)
        found = foreign_difference(record.directory, plain, self.ignored, own_study=self.own_study)
        for key, value in self._objective.items():
            if record.objective[key] != value:
                found[f"study.{GOALS[key]}"] = str(record.objective[key]), value
        if found:
            return listed(found)
        named = [*map(Path, [*self._code, *code_files(plain)])]
        files = [*(it.name for it in named), *(foreign_files(plain))]
        return f"the code, or a file that it names, has changed since: {', '.join(files)}"

    def objective_words(self, objective: Mapping[str, str]) -> list[str]:
        """None: what counts is chosen among what the function returns."""
        return []

    def launched(self, jobs: Sequence[TrialJob], more: Sequence[str]) -> list[list[str]]:
        """Their own overrides alone; what their records need is told beside them."""
        assert self._job is not None
        self._job.plans = {job.subdir: self._planned(job) for job in jobs}
        return [replace(job, part="").launched_as([]) for job in jobs]

    def _planned(self, job: TrialJob) -> PlannedJob:
        from phasewise.study.results import settings_of

        values = settings_of(job.words)
        seed = values.get(self.seed_key, self.seed) if self.seed_key is not None else None
        study = settings_of([job.part])["study.trial"] if job.part else {}
        if self.seed_key is not None:
            study = {**study, "seed_key": self.seed_key}
        return PlannedJob(job.fingerprint, list(job.words), seed, job.objective, study)

    def _wrap(self, launcher: Launcher) -> None:
        function: Any = getattr(launcher, "task_function", None)
        if function is None:
            name = type(launcher).__name__
            raise UserError(f"{name} keeps its task function elsewhere, so that no job leaves a "
                            "record; other launchers of Hydra work")  # fmt: skip
        self._code = _code_of(function)
        self._job = RecordedJob(function, self.name, own_study=self.own_study)
        launcher.task_function = self._job  # type: ignore[attr-defined]

    def _seed_key(self, own: Mapping[str, Any]) -> str | None:
        key = own.get("seed_key")
        if key is None:
            return "seed" if self._has("seed") else None
        if not self._has(str(key)):
            plain = plain_foreign(self.config)
            near = nearest_key(str(key), plain)
            hint = f"; did you mean {near}?" if near else ""
            raise settings_error([Problem(f"study.seed_key={key}", f"no such key{hint}")])
        return str(key)

    def _has(self, key: str) -> bool:
        return OmegaConf.select(self.config, key, default=self) is not self

    @staticmethod
    def _goal(own: Mapping[str, Any]) -> dict[str, str]:
        mode = own.get("mode")
        if mode not in ("max", "min"):
            what = "must be max or min: nobody else knows whether more of the objective is better"
            raise settings_error([Problem(f"study.mode={'null' if mode is None else mode}", what)])
        several = own.get("objectives") or [RESULT]
        first = several[0] if isinstance(several, list) else RESULT
        first = first.get("metric", RESULT) if isinstance(first, Mapping) else first
        metric = str(own.get("objective") or first)
        if metric.startswith(TEST):
            what = "is a test metric: what selects is no test any more; name one of validation data"
            raise settings_error([Problem(f"study.objective={metric}", what)])
        return {"metric": metric, "mode": str(mode)}


def is_project(config: DictConfig) -> bool:
    """Whether a config is of this project's own scripts, whose tasks have a schema."""
    return OmegaConf.select(config, "task.schema") is not None


def application_of(config: DictConfig, launcher: Launcher | None = None) -> Application | None:
    """The application that a config is of; None of another one that says nothing of a study.

    Raises:
        UserError: it says something that cannot be used.
    """
    if is_project(config):
        return Application(config)
    places = ("study", SWEEPER_SECTION)
    if any(isinstance(it := OmegaConf.select(config, at), DictConfig) and it for at in places):
        return HydraApplication(config, launcher)
    return None


def name_directory(config: DictConfig, name: str) -> None:
    """Give a study a directory that the same command finds again, where the application's own has
    the time in it: the part before that, and the study's name."""
    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    found = _NOW.search(raw["dir"])
    if found is not None:
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = raw["dir"][: found.start()] + name


def _code_of(function: Any) -> list[str]:
    """The file of an application's function, if it is not an installed package's."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except (TypeError, ValueError):
        return []
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")]
    if file is None or any(Path(file).resolve().is_relative_to(it) for it in installed):
        return []
    return [file]

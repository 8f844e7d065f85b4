"""``phasewise.run_study``: a study of a Python function, through Hydra like any application's."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.api.loaded import LoadedStudy, load
from phasewise.config.help import ADVICE
from phasewise.errors import Problem, UserError
from phasewise.project import HYDRA_VERSION
from phasewise.records.job import override_of
from phasewise.study.application import HydraApplication
from phasewise.study.commands import FUNCTION
from phasewise.study.ending import SweepFailed
from phasewise.study.schema import PhaseConfig
from phasewise.study.sweeper import sweep

CONFIG = "config"
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")
"""What logs where is for the script or the notebook to say."""

NAMELESS = "function"
"""What a function without a name is called."""

Show = Literal["progress", "all", "nothing"]

INTERRUPTED = "the study was interrupted; the same call continues"

log = logging.getLogger("phasewise")


def run_study(
    function: Callable[[DictConfig], Any],
    phases: Mapping[str, Any] | str | Path,
    start: Mapping[str, Any] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    objective: str | None = None,
    mode: Literal["max", "min"] | None = None,
    directory: str | Path,
    show: Show = "progress",
    hydra: Sequence[str] = (),
    **settings: Any,
) -> LoadedStudy | None:
    """Run a study of a function; called again, it continues, and runs only what is missing.

    It is planned, checked, resumed and reported as the studies of Hydra applications are: see
    ``docs/studies.md``.

    Args:
        function: is given the configuration of a trial, ``start`` with the trial's values:
            ``config.lr`` or ``config["lr"]``. It returns the objective, or a mapping of metrics to
            numbers; with a `phasewise.records.Recorder` inside, epochs are recorded, too. A
            function whose source has changed is another one.
        phases: by name, in order: ``{"lr": [0.1, 1.0]}``, values of keys, whose combinations
            are tried; or a text, as after ``-m``: ``"lr=0.1,1 depth=2,4"``; or a mapping with keys
            of ``docs/studies.md``. Or the path of a YAML file with a section ``study``.
        start: the starting configuration, possibly nested: all keys, with numbers, texts, None,
            lists and mappings as values.
        seeds: trials are repeated with each as ``seed`` of the configuration.
        objective: the metric that decides, of those that the function returns; None where it
            returns a number.
        mode: whether the largest (``max``, the default) or the least of it is best.
        directory: of the study.
        show: ``progress``: a line per trial; ``all`` also the plan and the tables; ``nothing``.
        hydra: words for Hydra: ``["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]`` runs trials
            in other processes.
        settings: other keys of ``study:``, as ``adopt="significant"``, ``set_aside=True``,
            ``report=False``. With ``dry_run=True`` the plan is shown, and nothing runs.

    Returns:
        The study as `phasewise.load` gives it, trials that failed included; None of a dry run.

    Raises:
        UserError: something cannot be used, before anything runs; or no phase could decide.
        KeyboardInterrupt: the same call continues.
    """
    study = _study(phases, seeds, objective, mode, settings)
    config = _config(function, start or {}, study)
    name = getattr(function, "__name__", "")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{CONFIG}.yaml").write_text(config, encoding="utf-8")
        shown: Show = "all" if study.get("dry_run") else show
        with (
            _hydra(folder, name if name.isidentifier() else NAMELESS) as composer,
            _shown(shown) as visible,
        ):
            try:
                _run(composer, visible(function), Path(directory), hydra)
            except SweepFailed as error:
                if not any(Path(directory).glob("study.json")):
                    raise
                log.warning("%s", UserError(error.head, error.problems))
            except UserError as error:
                raise _in_python(error) from None
            except KeyboardInterrupt:  # a notebook shows all that it came from
                raise KeyboardInterrupt(INTERRUPTED) from None
    return None if study.get("dry_run") else load(directory)


def _study(
    phases: Mapping[str, Any] | str | Path,
    seeds: Sequence[int] | None,
    objective: str | None,
    mode: str | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The section ``study``: of the file, if one is given; what is said here goes before it."""
    study: dict[str, Any] = {"mode": "max"}
    if isinstance(phases, str | Path):
        study |= _read(Path(phases).expanduser())
    else:
        study["phases"] = {name: _phase(phase) for name, phase in phases.items()}
    own: dict[str, Any] = {"objective": objective, "mode": mode}
    own["seeds"] = None if seeds is None else [*seeds]
    return study | {key: it for key, it in own.items() if it is not None} | dict(settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML ({' '.join(str(error).split())})") from None
    section = found.get("study", found) if isinstance(found, dict) else None
    if not isinstance(section, dict) or "phases" not in section:
        raise UserError(f"{path}: has no section study with phases")
    return section


def _phase(phase: Any) -> Any:
    """A phase as a study's file has it: of a mapping of keys to their values, the overrides."""
    if not isinstance(phase, Mapping) or set(phase) & set(PhaseConfig.model_fields):
        return phase
    words = []
    for key, values in phase.items():
        single = isinstance(values, str) or not isinstance(values, Sequence)
        each = [values] if single else values
        texts = [override_of("key", _plain(value)).partition("=")[2] for value in each]
        words.append(f"{key}={','.join(texts)}")
    return words


def _plain(value: Any) -> Any:
    """Scalars of NumPy as numbers, tuples as lists."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def _config(function: Callable[..., Any], start: Mapping[str, Any], study: dict[str, Any]) -> str:
    """The configuration file of a function's application."""
    if "study" in start or "hydra" in start:
        raise UserError("start: study and hydra are no keys of a function's configuration")
    seeds = study.get("seeds")
    content = {**({"seed": seeds[0]} if isinstance(seeds, list) and seeds else {}), **start}
    # another function is another application; it does not see this itself
    content |= {FUNCTION: _source_hash(function), "study": study | {"ignore": ["code"]}}
    try:
        return OmegaConf.to_yaml(OmegaConf.create(content))
    except (OmegaConfBaseException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"start: only numbers, texts, lists and mappings ({reason})") from None


def _source_hash(function: Callable[..., Any]) -> str:
    """Of the text of a function; of one that has none, its name."""
    function = inspect.unwrap(getattr(function, "func", function))  # of a partial
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        text = getattr(function, "__qualname__", repr(type(function)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _hydra(folder: str, name: str) -> Iterator[Hydra]:
    """Hydra with a folder of configs; what a notebook had of it before is there again after it."""
    before, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    base = version.VersionBase.instance().version_base
    version.setbase(HYDRA_VERSION)
    GlobalHydra.instance().clear()
    setup_globals()
    try:
        yield Hydra.create_main_hydra2(name, create_config_search_path(folder))
    finally:
        version.VersionBase.instance().version_base = base
        GlobalHydra.instance().hydra = before
        HydraConfig.instance().cfg = config


def _run(
    hydra: Hydra, function: Callable[[DictConfig], Any], directory: Path, words: Sequence[str]
) -> None:
    place = override_of("hydra.sweep.dir", str(directory.expanduser().absolute()))
    config = hydra.compose_config(
        CONFIG, [place, *QUIET, *words], run_mode=RunMode.MULTIRUN, with_log_configuration=False
    )
    HydraConfig.instance().set_config(config)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=function, config=config
    )
    sweep(
        [place],
        config=config,
        application=HydraApplication(config, launcher),
        config_loader=hydra.config_loader,
        launcher=launcher,
    )


@contextmanager
def _shown(show: Show) -> Iterator[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """What is seen of a study; yields what lets a function print as ever."""
    out = sys.stdout
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s"))
    if show == "progress":
        handler.setFormatter(_OneLine())
        handler.addFilter(_is_progress)
    if show == "nothing":
        handler.setLevel(logging.ERROR)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with redirect_stdout(out if show == "all" else StringIO()):
            yield partial(_Visible, out)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _is_progress(record: logging.LogRecord) -> bool:
    """Tracebacks of trials are in their records; what failed is said in the end."""
    name = record.name.rpartition(".")[2]
    return name == "progress" or (record.levelno > logging.INFO and name != "job")


class _Visible:
    """A function that prints as ever while what the study prints is held back.

    Args:
        out: where it prints; in another process, where that prints.
        function: the user's.
    """

    def __init__(self, out: Any, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.out: Any = out
        self.function = function

    def __call__(self, config: DictConfig) -> Any:
        with redirect_stdout(self.out or sys.stdout):
            return self.function(_without_source(config))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"out": None}


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().strip()


def _without_source(config: DictConfig) -> DictConfig:
    plain = {key: it for key, it in config.items_ex(resolve=False) if key != FUNCTION}
    return OmegaConf.create(plain, flags={"struct": True})


def _in_python(error: UserError) -> UserError:
    """With keywords of this call for the words of a command line."""

    def said(text: str) -> str:
        for word, keyword in (
            ("hydra.sweep.dir=DIR", "directory=DIR"),
            ("study.set_aside=true", "set_aside=True"),
            (f"{FUNCTION}=", "the function's source="),
        ):
            text = text.replace(word, keyword)
        return text

    problems = [Problem(one.file, said(one.reason)) for one in error.problems]
    advice = "" if error.advice == ADVICE else said(error.advice)  # a script's of this project
    return type(error)(said(error.head), problems, advice)

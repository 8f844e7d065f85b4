"""What ``study=NAME`` and ``-m`` do: plan, check, run phase by phase, carry winners on.

A sweep (``-m``) is a study of one phase. Everything that is decided follows from the records of
the runs, so that the same command continues a study that was stopped anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from phasewise.config.help import settings_error
from phasewise.errors import Problem, UserError
from phasewise.project import JOURNAL, tell_children
from phasewise.records.lock import LOCK
from phasewise.storage import remove_drafts, write_whole
from phasewise.study.application import Application, is_project, name_directory
from phasewise.study.changes import changes
from phasewise.study.compatibility import CompatibilityCheck
from phasewise.study.compose import Composer, Problems, context, trials_error
from phasewise.study.ending import run_to_end
from phasewise.study.fetching import fetch
from phasewise.study.follow_up import known_rounds
from phasewise.study.goals import resolve_goals
from phasewise.study.hypotheses import refuse_untried
from phasewise.study.journal import Journal, read_journal
from phasewise.study.launching import TrialExecutor
from phasewise.study.memory_limits import check_keys
from phasewise.study.naming import parse_overrides
from phasewise.study.origin import check_origin, find_origin, origin_notes
from phasewise.study.overrides import merge
from phasewise.study.owner import check_owner
from phasewise.study.phases import Runner
from phasewise.study.plan import Planner, Stage, planned_candidates, remembered
from phasewise.study.plan_summary import print_plan
from phasewise.study.published import check_published
from phasewise.study.reuse import SUPERSEDED, RunIndex, other_settings
from phasewise.study.saved_config import MULTIRUN
from phasewise.study.schema import PhaseConfig, StudyConfig, parse_study, rewritten_phases
from phasewise.study.starts import StageBuilder
from phasewise.study.tree import tree_of_plan
from phasewise.study.weights import policy_of

Checked = tuple[Journal, list[Stage], list[str]]
"""A plan that can be run, and what is to be told of it."""

OBSTACLES = 3
"""So many different ones are listed; they are long, and much the same."""

SUBDIR = "hydra.sweep.subdir"
ADDED_ORIGIN = ("+init_study=", "++init_study=")
"""As it is typed where an application has no such key of its own, and would not heed it."""

DEFAULT_SUBDIR = "${hydra.job.num}"

log = logging.getLogger(__name__)


def sweep(
    arguments: Sequence[str],
    *,
    config: DictConfig,
    application: Application,
    config_loader: ConfigLoader,
    launcher: Launcher,
    max_batch_size: int | None = None,
) -> list[Sequence[JobReturn]]:
    """Run a study, or every combination of the values on an ``-m`` line, as far as it is not done.

    Jobs that leave no record (``evaluate.py -m``) get no table; what they return or raise is
    passed on, as Hydra's own sweeper does.

    Args:
        arguments: the overrides as typed, sweeps included.
        config: what Hydra composed for the sweep as a whole.
        application: whose config it is.
        config_loader: Hydra's, which composes the trials.
        launcher: any of Hydra's.
        max_batch_size: most trials that the launcher gets at once; ``None`` for one by one in this
            process, all at once elsewhere.

    Returns:
        What the jobs returned, batch by batch.

    Raises:
        UserError: before anything runs, if a trial's config is not valid.
        SweepFailed: after everything ran, if a trial did not complete.
    """
    tell_children()
    if application.writes_records and OmegaConf.select(config, "data.check"):
        reason = "shows how one data set is read, and trains nothing: leave -m and study out"
        raise UserError(problems=[Problem("data.check=true", reason)])
    executor = TrialExecutor(launcher, max_batch_size, application.launched)
    study, scaled = parse_study(config, application)
    if not application.writes_records and is_study(study):
        study.name = study.name or application.name
        name_directory(config, study.name)
    directory = Path(str(config.hydra.sweep.dir))
    old, index = read_journal(directory), RunIndex(directory)
    composer = _composer(arguments, config, config_loader, application, old)
    composer.compares_data, composer.fetches = index.knows_data, study.fetch
    goal = application.objective
    planner = Planner(composer, directory, goal, study.seeds, application.seed)
    metrics = application.known_metrics
    fractions = () if metrics is None else application.fractions
    planner.goals = resolve_goals(study, study.requirements(), goal, metrics, fractions)
    if is_study(study) and application.writes_records:
        planner.origin = find_origin(arguments, scaled, config, composer, old)
    tests = is_study(study) and application.tests
    check = partial(_checked_plan, arguments, config, study, scaled, planner, old)
    journal, stages, notes = _data_last(composer, check)
    keeps = None
    if application.writes_records:
        keeps = policy_of(study.checkpoints, is_sweep=not is_study(study))
    builder = StageBuilder(planner, study.phases, journal.base)
    notes = [*_passed_over(config), *notes, *changes(builder, old, index, study)]
    notes += known_rounds(journal, old, study.follow_up)
    print_plan(journal, stages, index, notes, keeps)
    if study.fetch:
        fetch(stages, composer)
    if study.dry_run or study.fetch:
        return []
    prepare(config)
    runner = Runner(journal, study, planner, executor, index, test=tests, keeps=keeps, old=old)
    with _locked(directory):
        remove_drafts(directory / JOURNAL, directory / MULTIRUN)
        run_to_end(runner, stages[0], old)
    return executor.returns


def _composer(
    arguments: Sequence[str],
    config: DictConfig,
    loader: ConfigLoader,
    application: Application,
    old: Journal | None,
) -> Composer:
    """A composer that knows what an earlier call has found, if that still holds."""
    if old is None or old.context != context(config, arguments, old.files):
        return Composer(config, loader, application)
    composer = Composer(config, loader, application, remembered(old), old.data)
    composer.files.update(old.files)
    return composer


def _plan(
    arguments: Sequence[str],
    config: DictConfig,
    study: StudyConfig,
    scaled: Sequence[str],
    planner: Planner,
) -> tuple[Journal, list[Stage]]:
    """The journal with all phases as they would start from the starting configuration.

    Raises:
        UserError: the command line mixes what does not go together.
    """
    words = planner.composer.application.swept(arguments)
    _check_command(words, arguments, config, study)
    chosen = [word for word in words if word.lstrip("+").startswith("study=")]
    others = [word for word in words if word not in chosen]
    given = planner.origin.words if planner.origin else []
    base = merge(chosen, given, scaled, others) if is_study(study) else []
    study.phases = study.phases or {"": PhaseConfig(overrides=words)}
    builder = StageBuilder(planner, study.phases, base)
    planned: dict[str, Stage] = {}
    for name in study.phases:
        planned[name] = builder.planned(name, planned)
    stages = list(planned.values())
    journal = Journal(
        planner.directory,
        study.name or "sweep",
        planner.composer.application.name,
        list(arguments),
        planner.objective,
        planner.seeds or stages[0].phase.seeds,
        base=list(base),
        phases=[stage.phase for stage in stages],
        budget=planner.composer.application.budget,
        adopt=study.adopt,
        refit=study.refit,
        hypotheses=[it.model_dump(exclude_none=True) for it in study.hypotheses],
        published=study.published,
        published_conditions=study.published_conditions,
        origin=planner.origin,
    )
    return journal, stages


def _data_last(composer: Composer, check: Callable[[], Checked]) -> Checked:
    """What ``check`` finds; data are read when what can be refused at once has been."""
    composer.reads_data = False
    found = check()
    composer.reads_data = True
    return check() if composer.has_unread_data else found


def _checked_plan(
    arguments: Sequence[str],
    config: DictConfig,
    study: StudyConfig,
    scaled: Sequence[str],
    planner: Planner,
    old: Journal | None,
) -> Checked:
    """A plan that can be run, and what is to be told of it.

    Raises:
        UserError: all that is wrong with any trial; the directory is another study's, or holds
            runs of something else.
    """
    journal, stages = _plan(arguments, config, study, scaled, planner)
    composer = planner.composer
    journal.files, journal.data = sorted(composer.files), composer.data
    journal.context = context(config, arguments, journal.files)
    note = check_owner(journal, old)
    compatibility = CompatibilityCheck(planner.choices, journal.base)
    compatibility.check(
        [planned_candidates(stage) for stage in stages],
        conflicts=not _same_plan(journal, old),
        upstream=tree_of_plan(journal.phases).upstream,
    )
    _refuse_problems(stages, compatibility)
    check_keys(study.memory_grows_with, config)
    if study.hypotheses:
        refuse_untried(study.hypotheses, journal, config, composer.application.metrics, old)
    if study.published:
        known = (composer.application.metrics, composer.application.fractions)
        names, fractions = ([name.partition("/")[2] for name in found] for found in known)
        changed = rewritten_phases(config, study, composer.application.budget)
        check_published(study.published, journal.phases, names, changed, fractions)
    if not study.set_aside:
        check_origin(journal, old)
        if there := other_settings(stages[0], planner, journal.base, old):
            raise _occupied(planner.directory, there)
    notes = [*origin_notes(planner.origin), *([note] if note else []), *compatibility.notes()]
    return journal, stages, notes


def _same_plan(journal: Journal, old: Journal | None) -> bool:
    """Whether an earlier call planned these phases from these config files, and told of them."""
    if old is None or old.context != journal.context:
        return False
    plans = (
        [
            (phase.name, phase.declared, phase.source, phase.per)
            for phase in one.phases
            if phase.kind != "test" and not phase.round
        ]
        for one in (journal, old)
    )
    return next(plans) == next(plans)


def _refuse_problems(stages: Sequence[Stage], compatibility: CompatibilityCheck) -> None:
    """Refuse what can run after no choice.

    Raises:
        UserError: all that is wrong with any trial.
    """
    merged: Problems = {}
    found = [stage.problems for stage in stages]
    for stage in stages:
        for row, problems in stage.refused.items():
            if (stage.phase.name, row) not in compatibility.possible:
                found.append(problems)
    for problems in found:
        for problem, names in problems.items():
            merged.setdefault(problem, []).extend(names)
    if merged:
        sizes = (len(it.phase.candidates) * len(it.phase.seeds) for it in stages)
        raise trials_error(merged, sum(sizes))


def is_study(study: StudyConfig) -> bool:
    """Whether it has phases of its own; a sweep is one phase without a name."""
    return bool(study.phases.keys() - {""})


def _occupied(directory: Path, found: Mapping[str, list[str]]) -> UserError:
    """What lies where trials are to run, and the two ways on."""
    problems = [Problem(names[0], what) for what, names in found.items()][:OBSTACLES]
    count = sum(map(len, found.values()))
    more = f" (of {count} trials)" if count > len(problems) else ""
    advice = (
        "hydra.sweep.dir=DIR chooses another place; study.set_aside=true runs them anew here and "
        f"keeps what is there in {SUPERSEDED}/"
    )
    return UserError(f"obstacles in {directory}{more}", problems, advice)


def _check_command(
    words: Sequence[str], arguments: Sequence[str], config: DictConfig, study: StudyConfig
) -> None:
    """What can be typed and composed, but means nothing that anybody could want."""
    own = is_project(config)
    about_hydra = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(about_hydra, list)
    typed = any(str(word).lstrip("+").startswith(f"{SUBDIR}=") for word in about_hydra)
    if (own or typed) and _own_subdir(config):
        raise UserError(
            f"{SUBDIR} cannot be set: trials are named by their overrides\n"
            "hydra.sweep.dir=DIR chooses the directory of the sweep"
        )
    if not own and (asked := [word for word in arguments if word.startswith(ADDED_ORIGIN)]):
        reason = "is for this project's runs; type the words that the other study's last lines say"
        raise settings_error([Problem(asked[0], reason)])
    if not is_study(study):
        for key, default in (("budget", "full"), ("init_study", None)):
            if own and config.get(key, default) != default:
                raise settings_error([Problem(f"{key}={config[key]}", "is for study=NAME")])
        if not words:
            raise UserError(
                "there is nothing to compare: after -m stand keys with several values, e.g. "
                "optimizer.lr=3e-4,1e-3"
            )
        return
    problems = []
    for word in words:
        try:
            parse_overrides([word])
        except ValueError:
            reason = "several values of a key are a phase's; in a study each word has one value"
            problems.append(Problem(word, reason))
    if problems:
        raise settings_error(problems)


def _own_subdir(config: DictConfig) -> str:
    """Where an application wants its jobs to lie below the sweep; empty if it says nothing."""
    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    return "" if raw["subdir"] == DEFAULT_SUBDIR else str(raw["subdir"])


def _passed_over(config: DictConfig) -> list[str]:
    """What the application's config says that a study does not heed, told with the plan."""
    own = _own_subdir(config)
    return [f"{SUBDIR}={own} is passed over: trials are named by their overrides"] if own else []


def prepare(config: DictConfig) -> Path:
    """Make the sweep's directory and leave its config in it, as Hydra's sweeper does.

    Raises:
        UserError: if it cannot be written.
    """
    sweep_dir = Path(str(config.hydra.sweep.dir))
    write_whole(sweep_dir / MULTIRUN, OmegaConf.to_yaml(config))
    return sweep_dir


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the study's lock, which the system releases when this process dies.

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=1)  # a report holds it for a moment, to see whether anybody does
    except Timeout:
        raise UserError(
            f"{directory}: another process is at work on this study; wait for it, or choose "
            "another place with hydra.sweep.dir=DIR"
        ) from None
    try:
        yield
    finally:
        lock.release()

"""From what a study's file says to its phases, with the config of every trial checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from phasewise.config.help import settings_error
from phasewise.config.identity import COMPARED_SPLITS
from phasewise.config.previous import data_difference, has_no_epochs, settings_difference
from phasewise.errors import Problem
from phasewise.records.record import DATA_MARK, read_record
from phasewise.study.compatibility import OverrideMerger, PlannedCandidates
from phasewise.study.compose import Composer, ConfigIdentity, Problems
from phasewise.study.console import candidate_label
from phasewise.study.goals import Goals
from phasewise.study.journal import Candidate, Journal, Origin, Phase, Trial
from phasewise.study.naming import trial_name
from phasewise.study.override_checks import nothing_to_compare, override_problems
from phasewise.study.overrides import SEED, Grid, Overrides, expand, merge, sample_grid, without
from phasewise.study.schema import PhaseConfig

REFIT = ("data.refit=true", "objective.keep=last", "early_stopping.patience=null")
"""Training on training and validation data leaves nothing to choose an epoch by."""


@dataclass(frozen=True)
class TrialJob:
    """A trial to be launched; ``name`` is for people, who see what differs.

    ``part`` is the override with its places in the study, see `phasewise.study.membership`.
    """

    name: str
    words: Overrides
    directory: Path
    subdir: str
    fingerprint: str
    part: str = ""

    @property
    def study_directory(self) -> str:
        """Of the study."""
        return str(self.directory).removesuffix(f"/{self.subdir}")

    def launched_as(self, more: Sequence[str]) -> list[str]:
        """Its overrides, and those that put it into its directory and concern this launch only."""
        # in full: words for the study around it, which a trial is not given, may be part of it
        place = {"hydra.sweep.dir": self.study_directory, "hydra.sweep.subdir": self.subdir}
        quoted = {k: QuotedString(text, Quote.single).with_quotes() for k, text in place.items()}
        more = [*more, self.part] if self.part else more
        return [*merge(self.words, more), *(f"{key}={text}" for key, text in quoted.items())]


@dataclass
class Stage:
    """A phase whose trials are known.

    Attributes:
        jobs: per candidate, one per seed.
        refused: what is wrong with candidates, by index.
        problems: what else is wrong.
        epochs: of each trial, where the phase halves.
        notes: what was done to the words, told before anything runs.
        once: candidates by the fingerprints of their trials.
    """

    phase: Phase
    spec: PhaseConfig
    jobs: list[list[TrialJob]] = field(default_factory=list)
    refused: dict[int, Problems] = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    epochs: int | None = None
    notes: list[str] = field(default_factory=list)
    once: dict[tuple[str, ...], int] = field(default_factory=dict)


class Planner:
    """Builds stages: candidates, directories, fingerprints.

    Args:
        composer: composes and checks.
        directory: of the study.
        objective: ``metric`` and ``mode`` of phases that have none of their own.
        seeds: of phases that have none of their own; ``None``: of a sweep that names none.
        default_seed: the config's.

    Attributes:
        origin: the study whose winner this one starts from, if there is one.
        goals: several objectives, and constraints.
    """

    def __init__(
        self,
        composer: Composer,
        directory: Path,
        objective: dict[str, str],
        seeds: list[int] | None,
        default_seed: int,
    ) -> None:
        self.composer = composer
        self.choices = OverrideMerger(composer)
        self.directory = directory
        self.objective = objective
        self.seeds = seeds
        self.default_seed = default_seed
        self.origin: Origin | None = None
        self.goals = Goals()

    def grid_of(self, spec: PhaseConfig, *, named: bool = True) -> Grid:
        """The configurations that a phase names; the words of a plain sweep were judged as typed.

        Raises:
            UserError: there is none; a word is not a phase's; there is nothing to compare.
            hydra.errors.HydraException: one cannot be read.
        """
        problems = override_problems(spec) if named else []
        if problems:
            raise settings_error(problems)
        lines = [spec.overrides]
        if spec.combinations is not None:
            lines = [[*spec.overrides, *one] for one in spec.combinations]
        grid = expand(lines, self.composer.loader, spec.sample_seed)
        problems = nothing_to_compare(grid.declared)
        if problems:
            raise settings_error(problems)
        return sample_grid(grid, spec.sample, spec.sample_seed) if spec.sample else grid

    def stage(self, name: str, spec: PhaseConfig, base: Sequence[str]) -> Stage:
        """A phase that starts from ``base``, which is a candidate too unless it is a plain sweep's.

        Args:
            name: of the phase; empty for a plain sweep.
            spec: its settings.
            base: overrides that all its trials share.
        """
        grid = self.grid_of(spec, named=bool(name))
        seeds = spec.seeds or grid.seeds or self.seeds
        phase = Phase(
            name,
            "grid" if spec.combinations is None else "combinations",
            self.objective_of(spec),
            seeds or [self.default_seed],
            seeded=bool(seeds or name),
            base=merge(base, self.objective_words(spec)),
            declared=grid.declared,
            sampled_from=grid.sampled_from,
        )
        self.goals.give(phase, spec.metric, spec.require)
        stage = Stage(phase, spec)
        if grid.repeated:
            stage.notes.append(f"trials that repeat another one and are left out: {grid.repeated}")
        lead = list(grid.declared)
        same = [cell for cell in grid.cells if not self.add_once(stage, list(cell), lead)]
        if same:
            kept = [tuple(candidate.overrides) for candidate in phase.candidates]
            phase.declared = without(phase.declared, same, kept)
        own = self._fingerprint_of_base(phase)
        prints = [jobs[0].fingerprint if jobs else None for jobs in stage.jobs]
        if own is not None and own in prints:
            phase.incumbent = prints.index(own)
        elif name:
            phase.incumbent = len(phase.candidates)
            self.add(stage, [])
        self._check_compared_samples(stage)
        if spec.halving is not None:
            self._find_epochs(stage)
        self._note_dropped(stage)
        return stage

    def _check_compared_samples(self, stage: Stage) -> None:
        """Candidates that are judged by different samples, with any seed, cannot be compared."""
        phase = stage.phase
        for jobs, split in product(zip(*filter(None, stage.jobs), strict=True), COMPARED_SPLITS):
            data = [found for job in jobs if (found := self.composer.data_of(job.words))]
            if len({one.hashes.get(split) for one in data}) > 1:
                keys = [key for key in phase.declared if key.split(".")[0] == "data"]
                counts = [str(one.counts.get(split, 0)) for one in data]
                reason = (
                    f"{' and '.join(keys) or 'candidates'} would be judged by different {split} "
                    f"samples ({', '.join(dict.fromkeys(counts))} of them), so that their metrics "
                    "cannot be compared; give the study one such value"
                )
                key = f"study.phases.{phase.name}" if phase.name else " ".join(keys) or "the sweep"
                names = [job.name for job in jobs]
                stage.problems.setdefault(Problem(key, reason), []).extend(names)
                return

    def rerun(
        self,
        name: str,
        spec: PhaseConfig,
        start: Sequence[str],
        configurations: Sequence[Sequence[str]],
    ) -> Stage:
        """Configurations once more, with the overrides of ``spec.rerun``; where it compares, as
        they are, too.

        Args:
            name: of the phase.
            spec: its settings.
            start: overrides of the study's starting configuration.
            configurations: all overrides of each; the first is the incumbent.

        Raises:
            UserError: a word of ``spec.rerun`` is not a phase's.
        """
        assert spec.rerun is not None
        problems = override_problems(spec)
        if problems:
            raise settings_error(problems)
        phase = Phase(
            name,
            "rerun",
            self.objective_of(spec),
            spec.seeds or self.seeds or [self.default_seed],
            base=list(start),
            incumbent=0,
        )
        self.goals.give(phase, spec.metric, spec.require)
        stage = Stage(phase, spec)
        more = merge(spec.rerun.overrides, self.objective_words(spec))
        for added in (self.objective_words(spec), more) if spec.rerun.compare else (more,):
            for words in configurations:
                whole = self.choices.join(words, added)
                own = [word for word in whole if word not in start or word in added]
                self.add_once(stage, own)
        self._note_dropped(stage)
        return stage

    def _find_epochs(self, stage: Stage) -> None:
        jobs = [jobs[0] for jobs in stage.jobs if jobs]
        epochs = {self.composer.config_of(job.words).trainer.max_epochs for job in jobs}
        if len(epochs) > 1:
            reason = "halving compares after equal shares of trainer.max_epochs, which varies here"
            stage.problems[Problem(f"study.phases.{stage.phase.name}", reason)] = []
        stage.epochs = min(epochs, default=None)

    def add(self, stage: Stage, overrides: list[str], lead: Sequence[str] = ()) -> None:
        """Append a candidate with its trials; what is wrong with it goes to ``stage.refused``."""
        phase = stage.phase
        candidate = Candidate(overrides)
        shown = [word for word in overrides if word.partition("=")[0] in lead] or overrides
        jobs: list[TrialJob] = []
        problems: Problems = {}
        for seed in phase.seeds:
            extra = [f"{SEED}={seed}"] if phase.seeded else []
            name = trial_name([*overrides, *extra], set(lead))
            subdir = f"{phase.name}/{name}" if phase.name else name
            words = self.words(phase, overrides, seed)
            known = self.composer.try_fingerprint(words, subdir, problems)
            if known is not None:
                label = " ".join([*shown, *extra]) or name
                jobs.append(TrialJob(label, words, self.directory / subdir, subdir, known))
        if problems:
            candidate.refused = "; ".join(map(str, problems))
            jobs = []
            stage.refused[len(phase.candidates)] = problems
        candidate.trials = [
            Trial(seed, job.subdir, job.fingerprint, self.composer.check(job.words).data)
            for seed, job in zip(phase.seeds, jobs, strict=False)
        ]
        phase.candidates.append(candidate)
        stage.jobs.append(jobs)

    def add_once(self, stage: Stage, overrides: list[str], lead: Sequence[str] = ()) -> bool:
        """As `add`, unless another candidate computes the same; returns whether it was added."""
        self.add(stage, overrides, lead)
        candidates, jobs = stage.phase.candidates, stage.jobs[-1]
        twin = stage.once.setdefault(tuple(job.fingerprint for job in jobs), len(candidates) - 1)
        if not jobs or twin == len(candidates) - 1:
            return True
        one, other = (
            candidate_label(stage.phase, candidates[row], self.directory) for row in (-1, twin)
        )
        stage.notes.append(f"{one} computes the same as {other}: one candidate")
        del candidates[-1], stage.jobs[-1]
        return False

    def _note_dropped(self, stage: Stage) -> None:
        """Tell which words do not go with the config groups that candidates choose."""
        found: dict[str, dict[str, None]] = {}
        for candidate in stage.phase.candidates:
            for word in self.choices.dropped(stage.phase.base, candidate.overrides):
                for chosen in self.choices.groups(candidate.overrides):
                    if self.choices.section(chosen) in ("", self.choices.section(word)):
                        found.setdefault(word, {})[chosen] = None
        if found:
            dropped = "; ".join(
                f"{word} with {', '.join(chosen)}" for word, chosen in found.items()
            )
            stage.notes.append(f"left out, for there is no such key: {dropped}")

    def words(self, phase: Phase, overrides: Sequence[str], seed: int) -> Overrides:
        """All overrides of a trial."""
        extra = [f"{SEED}={seed}"] if phase.seeded else []
        return tuple(merge(self.choices.join(phase.base, overrides), extra))

    def objective_of(self, spec: PhaseConfig) -> dict[str, str]:
        """What a phase is judged by."""
        from phasewise.config.schema import metrics_of

        if spec.metric is None:
            return self.objective
        modes = metrics_of(self.composer.config)
        return {"metric": spec.metric, "mode": modes.get(spec.metric, self.objective["mode"])}

    def objective_words(self, spec: PhaseConfig) -> list[str]:
        """The overrides that make its trials go by that."""
        if spec.metric is None:
            return []
        return [f"objective.{key}={value}" for key, value in self.objective_of(spec).items()]

    def _fingerprint_of_base(self, phase: Phase) -> str | None:
        return self.composer.try_fingerprint(self.words(phase, [], phase.seeds[0]), "base", {})


def remembered(old: Journal) -> dict[Overrides, ConfigIdentity]:
    """What an earlier call knows of configs, by their words."""
    known = {}
    for phase, candidate, trial in old.trials():
        if trial.data in old.data:
            seed = [f"{SEED}={trial.seed}"] if phase.seeded else []
            fingerprint = trial.fingerprint.partition(DATA_MARK)[0]
            words = tuple(merge(phase.base, candidate.overrides, seed))
            known[words] = ConfigIdentity(fingerprint, trial.data)
    return known


def planned_candidates(stage: Stage) -> PlannedCandidates:
    """What a phase has to do with the others' choices."""
    words = [candidate.overrides for candidate in stage.phase.candidates]
    return PlannedCandidates(stage.phase.name, words, stage.refused)


def foreign_runs(stage: Stage, composer: Composer) -> dict[str, list[str]]:
    """Directories of its trials that hold a run of other settings or data, by what they hold."""
    found: dict[str, list[str]] = {}
    for job in (job for jobs in stage.jobs for job in jobs):
        record = read_record(job.directory)
        if record is None or record.is_of(job.fingerprint) or has_no_epochs(record):
            continue
        if record.fingerprint == job.fingerprint.partition(DATA_MARK)[0]:
            what = data_difference(
                record, composer.config_of(job.words), composer.data_of(job.words)
            )
        else:
            there = settings_difference(record, composer.config_of(job.words))
            what = f"holds a run of other settings ({there})"
        found.setdefault(what, []).append(job.subdir)
    return found


def swept(config: DictConfig, arguments: Sequence[str]) -> list[str]:
    """The words of a command line that make trials, without those for the study around them."""
    around = ("study.", "budget=", "init_study=", "hydra.")
    return [word for word in arguments if not word.lstrip("+~").startswith(around)]

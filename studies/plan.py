"""From what a study's file says to its phases, with the config of every trial checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from common.errors import UserError
from common.runs.record import previous_run
from studies import journal
from studies.compose import Composer, Reasons, reasons_of
from studies.naming import trial_name
from studies.overrides import SEED, Grid, Words, draw, expand, merge
from studies.schema import Phase

REFIT = ("data.refit=true", "objective.keep=last", "early_stopping.patience=null")
"""Training on training and validation data leaves nothing to choose an epoch by."""


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A trial to be launched; ``name`` is for people, who see what differs."""

    name: str
    words: Words
    directory: Path
    subdir: str
    fingerprint: str

    def launched_as(self, more: Sequence[str]) -> list[str]:
        """Its overrides, and those that put it into its directory and concern this launch only."""
        # in full: words for the study around it, which a trial is not given, may be part of it
        study = str(self.directory).removesuffix(f"/{self.subdir}")
        place = {"hydra.sweep.dir": study, "hydra.sweep.subdir": self.subdir}
        quoted = {k: QuotedString(text, Quote.single).with_quotes() for k, text in place.items()}
        return [*merge(self.words, more), *(f"{key}={text}" for key, text in quoted.items())]


@dataclass
class Stage:
    """A phase whose trials are known.

    Attributes:
        jobs: per candidate, one per seed.
        problems: what is wrong with candidates.
        epochs: of each trial, where the phase halves.
    """

    phase: journal.Phase
    spec: Phase
    jobs: list[list[Job]] = field(default_factory=list)
    problems: Reasons = field(default_factory=dict)
    epochs: int | None = None


class Planner:
    """Builds stages: candidates, directories, fingerprints.

    Args:
        composer: composes and checks.
        directory: of the study.
        objective: ``metric`` and ``mode`` of phases that have none of their own.
        seeds: of phases that have none of their own; ``None``: of a sweep that names none.
        default_seed: the config's.
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
        self.directory = directory
        self.objective = objective
        self.seeds = seeds
        self.default_seed = default_seed

    def grid_of(self, spec: Phase) -> Grid:
        """The configurations that a phase names.

        Raises:
            UserError: there is none.
            hydra.errors.HydraException: one cannot be read.
        """
        lines = [spec.overrides]
        if spec.combinations is not None:
            lines = [[*spec.overrides, *one] for one in spec.combinations]
        grid = expand(lines, self.composer.loader)
        return draw(grid, spec.sample, spec.sample_seed) if spec.sample else grid

    def stage(
        self, name: str, spec: Phase, base: Sequence[str], *, incumbent: bool = False
    ) -> Stage:
        """A phase that starts from ``base``.

        Args:
            name: of the phase.
            spec: its settings.
            base: overrides that all its trials share.
            incumbent: whether ``base`` itself is a candidate if no other is the same.
        """
        grid = self.grid_of(spec)
        if grid.repeated:
            log.info("trials that repeat another one and are left out: %d", grid.repeated)
        seeds = spec.seeds or grid.seeds or self.seeds
        phase = journal.Phase(
            name,
            "grid" if spec.combinations is None else "combinations",
            self.objective_of(spec),
            seeds or [self.default_seed],
            seeded=bool(seeds or name),
            base=merge(base, self.objective_words(spec)),
            declared=grid.declared,
            sampled_from=grid.sampled_from,
        )
        stage = Stage(phase, spec)
        lead = list(grid.declared)
        for cell in grid.cells:
            self.add(stage, list(cell), lead)
        own = self._fingerprint_of_base(phase)
        prints = [jobs[0].fingerprint if jobs else None for jobs in stage.jobs]
        if own is not None and own in prints:
            phase.incumbent = prints.index(own)
        elif incumbent:
            phase.incumbent = len(phase.candidates)
            self.add(stage, [])
        if spec.halving is not None:
            self._find_epochs(stage)
        return stage

    def rerun(
        self, name: str, spec: Phase, start: Sequence[str], configurations: Sequence[Sequence[str]]
    ) -> Stage:
        """Configurations once more, with the overrides of ``spec.rerun``.

        Args:
            name: of the phase.
            spec: its settings.
            start: overrides of the study's starting configuration.
            configurations: all overrides of each; the first is the incumbent.
        """
        assert spec.rerun is not None
        phase = journal.Phase(
            name,
            "rerun",
            self.objective_of(spec),
            spec.seeds or self.seeds or [self.default_seed],
            base=list(start),
            incumbent=0,
        )
        stage = Stage(phase, spec)
        for words in configurations:
            own = [word for word in words if word not in start]
            self.add(stage, merge(own, spec.rerun.overrides, self.objective_words(spec)))
        return stage

    def _find_epochs(self, stage: Stage) -> None:
        jobs = [jobs[0] for jobs in stage.jobs if jobs]
        epochs = {self.composer.config_of(job.words).trainer.max_epochs for job in jobs}
        if len(epochs) > 1:
            reason = "halving compares after equal shares of trainer.max_epochs, which varies here"
            stage.problems[f"study.phases.{stage.phase.name}: {reason}"] = []
        stage.epochs = min(epochs, default=None)

    def add(self, stage: Stage, overrides: list[str], lead: Sequence[str] = ()) -> None:
        """Append a candidate with its trials; what is wrong with it goes to ``stage.problems``."""
        phase = stage.phase
        candidate = journal.Candidate(overrides)
        told = [word for word in overrides if word.partition("=")[0] in lead] or overrides
        jobs: list[Job] = []
        reasons: Reasons = {}
        for seed in phase.seeds:
            extra = [f"{SEED}={seed}"] if phase.seeded else []
            name = trial_name([*overrides, *extra], set(lead))
            subdir = f"{phase.name}/{name}" if phase.name else name
            words = self.words(phase, overrides, seed)
            known = self.composer.try_fingerprint(words, subdir, reasons)
            if known is not None:
                label = " ".join([*told, *extra]) or name
                jobs.append(Job(label, words, self.directory / subdir, subdir, known))
        if reasons:
            candidate.refused = "; ".join(reasons)
            jobs = []
        for reason, names in reasons.items():
            stage.problems.setdefault(reason, []).extend(names)
        candidate.trials = [
            journal.Trial(seed, job.subdir, job.fingerprint)
            for seed, job in zip(phase.seeds, jobs, strict=False)
        ]
        phase.candidates.append(candidate)
        stage.jobs.append(jobs)

    def words(self, phase: journal.Phase, overrides: Sequence[str], seed: int) -> Words:
        """All overrides of a trial."""
        extra = [f"{SEED}={seed}"] if phase.seeded else []
        return tuple(merge(phase.base, overrides, extra))

    def objective_of(self, spec: Phase) -> dict[str, str]:
        """What a phase is judged by."""
        from common.config.schema import metrics_of

        if spec.metric is None:
            return self.objective
        modes = metrics_of(self.composer.config)
        return {"metric": spec.metric, "mode": modes.get(spec.metric, self.objective["mode"])}

    def objective_words(self, spec: Phase) -> list[str]:
        """The overrides that make its trials go by that."""
        if spec.metric is None:
            return []
        return [f"objective.{key}={value}" for key, value in self.objective_of(spec).items()]

    def _fingerprint_of_base(self, phase: journal.Phase) -> str | None:
        return self.composer.try_fingerprint(self.words(phase, [], phase.seeds[0]), "base", {})


def remembered(old: journal.Journal | None, context: str) -> dict[Words, str]:
    """Fingerprints by words that an earlier call computed from the same config files."""
    if old is None or old.context != context:
        return {}
    known = {}
    for phase, candidate, trial in old.trials():
        seed = [f"{SEED}={trial.seed}"] if phase.seeded else []
        known[tuple(merge(phase.base, candidate.overrides, seed))] = trial.fingerprint
    return known


def foreign_runs(stage: Stage) -> Reasons:
    """Directories of its trials that hold a run of another configuration."""
    reasons: Reasons = {}
    for job in (job for jobs in stage.jobs for job in jobs):
        try:
            previous_run(job.directory, job.fingerprint)
        except UserError as error:
            for reason in reasons_of(error):
                reasons.setdefault(reason, []).append(job.subdir)
    return reasons


def swept(config: DictConfig, arguments: Sequence[str]) -> list[str]:
    """The words of a command line that make trials, without those for the study around them."""
    around = ("study.", "budget=", "hydra.")
    return [word for word in arguments if not word.lstrip("+~").startswith(around)]

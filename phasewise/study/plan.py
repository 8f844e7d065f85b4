"""From what a study's file says to its phases, with the config of every trial checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from phasewise.config.help import settings_error
from phasewise.config.identity import COMPARED_SPLITS
from phasewise.errors import Problem
from phasewise.records.record import DATA_MARK
from phasewise.study.compatibility import OverrideMerger, PlannedCandidates
from phasewise.study.compose import Composer, ConfigIdentity, Problems
from phasewise.study.console import candidate_label
from phasewise.study.goals import Goals
from phasewise.study.halving_plan import halved_of, last_rung
from phasewise.study.journal import Candidate, Journal, Origin, Phase, Trial
from phasewise.study.naming import trial_name
from phasewise.study.override_checks import nothing_to_compare, override_problems
from phasewise.study.overrides import SEED, Grid, Overrides, expand, merge, sample_grid, without
from phasewise.study.progress import Progress
from phasewise.study.schema import PhaseConfig
from phasewise.study.search_plan import planned_search, probes, searched_grid
from phasewise.study.trial_job import TrialJob

REFIT = ("data.refit=true", "objective.keep=last", "early_stopping.patience=null")
"""Training on training and validation data leaves nothing to choose an epoch by."""


RUNGS = "rungs"
"""The folder in a phase's for runs below the last rung of halving."""


@dataclass
class Stage:
    """A phase whose trials are known.

    Attributes:
        jobs: per candidate, one per seed.
        refused: what is wrong with candidates, by index.
        problems: what else is wrong.
        rung_jobs: per candidate, where halving runs anew at each rung: for each rung below the last
            one job per seed.
        notes: what was done to the words, told before anything runs.
        once: candidates by the fingerprints of their trials.
        probes: overrides that stand for all that a search may ask for, while nothing is asked;
            then ``refused`` is about them.
        progress: of a stage that is launched batch after batch.
        start: overrides that all its candidates begin with, without those of the phase's objective.
    """

    phase: Phase
    spec: PhaseConfig
    jobs: list[list[TrialJob]] = field(default_factory=list)
    refused: dict[int, Problems] = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    rung_jobs: list[list[list[TrialJob]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    once: dict[tuple[str, ...], int] = field(default_factory=dict)
    probes: list[list[str]] = field(default_factory=list)
    progress: Progress | None = None
    start: list[str] = field(default_factory=list)


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
        problems = override_problems(spec, self.composer.application) if named else []
        if problems:
            raise settings_error(problems)
        if spec.search is not None:
            return searched_grid(spec, self.composer.loader, self.composer.application)
        lines = [spec.overrides]
        if spec.combinations is not None:
            lines = [[*spec.overrides, *one] for one in spec.combinations]
        grid = expand(
            lines, self.composer.loader, spec.sample_seed, self.composer.application.seed_key
        )
        problems = nothing_to_compare(grid.declared, self.composer.application)
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
        stage, grid = self.empty(name, spec, base)
        phase = stage.phase
        lead = list(grid.declared)
        same = [cell for cell in grid.cells if not self.add_once(stage, list(cell), lead)]
        if same:
            kept = [tuple(candidate.overrides) for candidate in phase.candidates]
            phase.declared = without(phase.declared, same, kept)
        own = self.fingerprint_of(phase, [])
        prints = [jobs[0].fingerprint if jobs else None for jobs in stage.jobs]
        if own is not None and own in prints:
            phase.incumbent = prints.index(own)
        elif name:
            phase.incumbent = len(phase.candidates)
            self.add(stage, [])
        self.check_compared_samples(stage)
        self.plan_search(stage)
        self.plan_halving(stage)
        self._note_dropped(stage)
        return stage

    def empty(self, name: str, spec: PhaseConfig, base: Sequence[str]) -> tuple[Stage, Grid]:
        """A phase without candidates, and the configurations that it names; as `stage`."""
        grid = self.grid_of(spec, named=bool(name))
        seeds = spec.seeds or grid.seeds or self.seeds
        phase = Phase(
            name,
            "grid" if spec.combinations is None else "combinations",
            self.objective_of(spec),
            seeds or [self.default_seed],
            seeded=bool(seeds or name) and self.composer.application.seed_key is not None,
            base=merge(base, self.objective_words(spec), last_rung(spec)),
            declared=grid.declared,
            sampled_from=grid.sampled_from,
            source=spec.source,
            why=spec.reason or "",
        )
        self.goals.give(phase, spec.metric, spec.require)
        stage = Stage(phase, spec, start=list(base))
        if grid.repeated:
            stage.notes.append(f"trials that repeat another one and are left out: {grid.repeated}")
        return stage, grid

    def plan_search(self, stage: Stage) -> None:
        """Who asks for the candidates of a phase that searches, and whether what may be asked for
        can run; its incumbents are there already."""
        if stage.spec.search is None:
            return
        search = planned_search(stage.spec, self.composer.loader)
        stage.phase.kind, stage.phase.search = "search", search
        probed = Stage(replace(stage.phase, candidates=[]), stage.spec)
        for row in (branch.incumbent for branch in stage.phase.rivals()):
            assert row is not None

            def can_run(words: list[str], row: int = row) -> bool:
                return self._can_run(stage.phase, self.beside(stage, row, words))

            for words in [[], *probes(search, can_run)]:
                self.add(probed, self.beside(stage, row, words))
        self.check_compared_samples(probed)
        stage.probes = [one.overrides for one in probed.phase.candidates]
        stage.refused, stage.problems = probed.refused, stage.problems | probed.problems

    def _can_run(self, phase: Phase, overrides: list[str]) -> bool:
        return (
            self.composer.try_fingerprint(self.words(phase, overrides, phase.seeds[0]), "", {})
            is not None
        )

    def check_compared_samples(self, stage: Stage) -> None:
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
        problems = override_problems(spec, self.composer.application)
        if problems:
            raise settings_error(problems)
        phase = Phase(
            name,
            "rerun",
            self.objective_of(spec),
            spec.seeds or self.seeds or [self.default_seed],
            base=list(start),
            incumbent=0,
            source=spec.source,
            why=spec.reason or "",
        )
        self.goals.give(phase, spec.metric, spec.require)
        stage = Stage(phase, spec, start=list(start))
        more = merge(spec.rerun.overrides, self.objective_words(spec))
        for added in (self.objective_words(spec), more) if spec.rerun.compare else (more,):
            for words in configurations:
                whole = self.choices.join(words, added)
                own = [word for word in whole if word not in start or word in added]
                self.add_once(stage, own)
        self._note_dropped(stage)
        return stage

    def plan_halving(self, stage: Stage) -> None:
        """The rungs of a phase that halves, and the runs at them where each is one of its own."""
        phase, settings = stage.phase, stage.spec.halving
        if settings is None:
            return
        configs = [self.composer.config_of(jobs[0].words) for jobs in stage.jobs if jobs]
        searched = phase.search.space if phase.search is not None else []
        varied = phase.declared | {one.name: [] for one in searched}
        phase.halving, reasons, notes = halved_of(settings, configs, varied)
        key = f"study.phases.{phase.name}.halving"
        stage.problems |= {Problem(key, reason): [] for reason in reasons}
        stage.notes += notes
        self.add_rungs(stage)

    def add_rungs(self, stage: Stage) -> None:
        """The runs at rungs of candidates that have none yet."""
        phase, settings = stage.phase, stage.spec.halving
        assert settings is not None
        lead, first = list(phase.declared), len(stage.rung_jobs)
        for candidate, jobs in zip(phase.candidates[first:], stage.jobs[first:], strict=True):
            rungs = [
                self._jobs(phase, candidate.overrides, lead, stage.problems, [word])
                for word in (settings.words()[:-1] if jobs else [])
            ]
            stage.rung_jobs.append(rungs)
            candidate.rungs = [self._trials(phase, it) for it in rungs]

    def add(self, stage: Stage, overrides: list[str], lead: Sequence[str] = ()) -> None:
        """Append a candidate with its trials; what is wrong with it goes to ``stage.refused``."""
        phase = stage.phase
        candidate = Candidate(overrides)
        problems: Problems = {}
        jobs = self._jobs(phase, overrides, lead, problems)
        if problems:
            candidate.refused = "; ".join(map(str, problems))
            jobs = []
            stage.refused[len(phase.candidates)] = problems
        candidate.trials = self._trials(phase, jobs)
        phase.candidates.append(candidate)
        stage.jobs.append(jobs)

    def _jobs(
        self,
        phase: Phase,
        overrides: list[str],
        lead: Sequence[str],
        problems: Problems,
        rung: Sequence[str] = (),
    ) -> list[TrialJob]:
        """The runs of a configuration, one per seed; those at a rung have a folder of their own."""
        shown = [word for word in overrides if word.partition("=")[0] in lead] or overrides
        folder = "/".join(filter(None, [phase.name, RUNGS if rung else ""]))
        jobs = []
        for seed in phase.seeds:
            extra = [*rung, *self.seed_words(phase, seed)]
            name = trial_name([*overrides, *extra], set(lead))
            subdir = f"{folder}/{name}" if folder else name
            words = tuple(merge(self.words(phase, overrides, seed), rung))
            known = self.composer.try_fingerprint(words, subdir, problems)
            if known is not None:
                label = " ".join([*shown, *extra]) or name
                place = self.directory / subdir
                jobs.append(TrialJob(label, words, place, subdir, known, objective=phase.objective))
        return jobs

    def _trials(self, phase: Phase, jobs: Sequence[TrialJob]) -> list[Trial]:
        return [
            Trial(seed, job.subdir, job.fingerprint, self.composer.check(job.words).data)
            for seed, job in zip(phase.seeds, jobs, strict=False)
        ]

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
        own = self.seed_words(phase, seed)
        return tuple(merge(self.choices.join(phase.base, overrides), own))

    def seed_words(self, phase: Phase, seed: int) -> list[str]:
        """The override that repeats a phase's trial; none where the application has no seed."""
        key = self.composer.application.seed_key
        return [f"{key}={seed}"] if phase.seeded and key is not None else []

    def winner_words(self, stage: Stage, row: int) -> list[str]:
        """What a phase starts from that starts from a candidate of this one."""
        return self.choices.join(stage.start, stage.phase.candidates[row].overrides)

    def beside(self, stage: Stage, row: int, words: list[str]) -> list[str]:
        """The overrides of a candidate that has these words, and for the rest what another has."""
        if not stage.phase.candidates[row].overrides:
            return words
        whole = self.choices.join(self.winner_words(stage, row), words)
        return [word for word in whole if word not in stage.start or word in words]

    def objective_of(self, spec: PhaseConfig) -> dict[str, str]:
        """What a phase is judged by."""
        if spec.metric is None:
            return self.objective
        modes = self.composer.application.metrics
        return {"metric": spec.metric, "mode": modes.get(spec.metric, self.objective["mode"])}

    def objective_words(self, spec: PhaseConfig) -> list[str]:
        """The overrides that make its trials go by that."""
        if spec.metric is None:
            return []
        return self.composer.application.objective_words(self.objective_of(spec))

    def fingerprint_of(self, phase: Phase, overrides: Sequence[str]) -> str | None:
        """What a candidate computes with the first seed; ``None`` where it cannot run."""
        words = self.words(phase, overrides, phase.seeds[0])
        return self.composer.try_fingerprint(words, "base", {})


def remembered(old: Journal) -> dict[Overrides, ConfigIdentity]:
    """What an earlier call knows of configs, by their words."""
    known = {}
    for phase, candidate, trial in old.trials():
        if trial.data in old.data:
            seed = [f"{SEED}={trial.seed}"] if phase.seeded else []  # this project's own
            fingerprint = trial.fingerprint.partition(DATA_MARK)[0]
            words = tuple(merge(phase.base, candidate.overrides, seed))
            known[words] = ConfigIdentity(fingerprint, trial.data)
    return known


def planned_candidates(stage: Stage) -> PlannedCandidates:
    """What a phase has to do with the others' choices."""
    words = stage.probes or [candidate.overrides for candidate in stage.phase.candidates]
    return PlannedCandidates(stage.phase.name, words, stage.refused)

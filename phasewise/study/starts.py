"""Builds each phase from those that it starts from: as it is planned, and when they are decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hydra.errors import HydraException

from phasewise.config.help import settings_error
from phasewise.errors import Problem, UserError
from phasewise.records.record import RunRecord
from phasewise.study.branches import (
    branched_stage,
    decided_starts,
    note_branches,
    planned_starts,
)
from phasewise.study.compose import problems_in
from phasewise.study.finalists import find_finalists, planned_count
from phasewise.study.halving_plan import END
from phasewise.study.journal import Phase
from phasewise.study.leaves import best_leaf
from phasewise.study.plan import Planner, Stage
from phasewise.study.schema import PhaseConfig
from phasewise.study.tree import tree_of_specs
from phasewise.study.trial_job import TrialJob

Outcome = Callable[[TrialJob], RunRecord]


class StageBuilder:
    """Builds the stages of a study.

    Args:
        planner: composes and checks.
        specs: the settings of each phase, in the order of the file.
        base: overrides of the study's starting configuration.

    Attributes:
        tree: which phase starts from which.
        goal: has the study's objectives.
    """

    def __init__(
        self, planner: Planner, specs: Mapping[str, PhaseConfig], base: Sequence[str]
    ) -> None:
        self.planner = planner
        self.specs = specs
        self.base = list(base)
        self.tree = tree_of_specs(specs)
        self.goal = Phase("", "grid", planner.objective, [])
        planner.goals.give(self.goal, None, [])

    def planned(self, name: str, stages: Mapping[str, Stage]) -> Stage:
        """A phase as it would start from the starting configuration.

        What is wrong with it stands in its ``problems``; in a plain sweep it is raised.

        Args:
            name: of the phase.
            stages: the planned phases before it, by name.
        """
        spec = self.specs[name]
        try:
            if spec.rerun is not None:
                return self._planned_rerun(name, spec, stages)
            if spec.per is not None:
                sources = self._with_levels(name, stages)
                if not any(source.problems for source in sources):  # else these are told
                    self._refuse_scaled(name, spec, stages)
                    starts, first = planned_starts(spec.per, sources, self.planner)
                    return branched_stage(name, spec, starts, self.planner, first)
            return self.planner.stage(name, spec, self.base)
        except (UserError, HydraException) as error:
            if not name:
                raise
            problems = {
                Problem(f"study.phases.{name}", str(it)): list[str]() for it in problems_in(error)
            }
            phase = Phase(name, "grid", {}, [], source=spec.source)
            return Stage(phase, spec, problems=problems)

    def _planned_rerun(self, name: str, spec: PhaseConfig, stages: Mapping[str, Stage]) -> Stage:
        assert spec.rerun is not None
        stage = self.planner.rerun(name, spec, self.base, [self.base])
        # which ones is not known yet, only how many at most
        before = [stages[one] for one in self.tree.upstream(name)]
        count = planned_count(spec.rerun, before)
        stage.phase.candidates *= count
        stage.jobs *= count
        stage.phase.per = spec.rerun.per or ""
        return stage

    def _with_levels(self, name: str, stages: Mapping[str, Stage]) -> list[Stage]:
        """The planned phases that know levels: of a rerun those that it chooses from."""
        found = []
        for one in self.tree.parents[name]:
            reruns = self.specs[one].rerun is not None
            found += self._with_levels(one, stages) if reruns else [stages[one]]
        return found

    def _refuse_scaled(self, name: str, spec: PhaseConfig, stages: Mapping[str, Stage]) -> None:
        """Branches that halve compare after the same amounts, so that none may have its own.

        Raises:
            UserError: a phase before has chosen what scales the trials.
        """
        scale = None if spec.halving is None else spec.halving.key or END
        for one in self.tree.upstream(name):
            if scale in stages[one].phase.declared:
                reason = f"branches compare after equal shares of {scale}, which {one} varies"
                raise settings_error([Problem(f"halving of {scale}", reason)])

    def decided(self, name: str, stages: Mapping[str, Stage], outcome: Outcome) -> Stage:
        """A phase as it starts from what was decided.

        Args:
            name: of the phase.
            stages: the phases before it, by name; those that it builds on are decided.
            outcome: of a trial.
        """
        spec = self.specs[name]
        sources = [stages[one] for one in self.tree.parents[name]]
        base = self.words_after(sources, outcome)
        if spec.rerun is not None:
            wanted = Phase(name, "rerun", self.planner.objective_of(spec), [])
            self.planner.goals.give(wanted, spec.metric, spec.require)
            before = [stages[one] for one in self.tree.upstream(name)]
            best = find_finalists(spec.rerun, before, base, self.planner, outcome, wanted)
            stage = self.planner.rerun(name, spec, self.base, best)
            if spec.rerun.per is not None:
                note_branches(stage, spec.rerun.per, self.planner)
            return stage
        if spec.per is None:
            return self.planner.stage(name, spec, base)
        (source,) = sources
        runs = runs_of(source, outcome)
        starts, first, without = decided_starts(source, spec.per, self.planner, runs)
        stage = branched_stage(name, spec, starts, self.planner, first)
        for level in without:
            stage.notes.append(f"no branch for {spec.per}={level}, of which nothing has a result")
        return stage

    def words_after(self, sources: Sequence[Stage], outcome: Outcome) -> list[str]:
        """What comes of decided phases: the winner of the best of them, or the study's start."""
        if not sources:
            return self.base
        stage, _ = best_leaf(sources, self.goal, outcome)
        assert stage.phase.winner is not None
        return self.planner.winner_words(stage, stage.phase.winner)


def runs_of(stage: Stage, outcome: Outcome) -> list[dict[int, RunRecord]]:
    """The records of each candidate of a phase, by seed."""
    return [
        {seed: outcome(job) for seed, job in zip(stage.phase.seeds, jobs, strict=False)}
        for jobs in stage.jobs
    ]

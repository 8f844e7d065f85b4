"""Rounds of phases that a study proposes to itself, see ``study.follow_up``.

What a round asks follows from the records of all phases before it alone, so that a call that goes
on proposes the same rounds again and finds their trials there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from phasewise.errors import say
from phasewise.study.follow_settings import FollowUp
from phasewise.study.journal import Journal
from phasewise.study.plan import Planner, Stage
from phasewise.study.results import StudyResult, read_phase
from phasewise.study.schema import PhaseConfig
from phasewise.study.starts import StageBuilder
from phasewise.study.tree import tree_of_specs

if TYPE_CHECKING:
    from phasewise.analysis.proposals import Proposal

LAST = "seeds"
"""The rule of proposals that only confirm: they wait for a round that has nothing else."""

UNSETTLED, WAITING = "edge", "longer"
"""Epochs are doubled when no best value lies at an edge any more: till then they would be spent on
settings that are about to change."""


class Rounds:
    """Proposes one round after the other, and lets the study's tree grow.

    Args:
        settings: how many, for how long; ``None`` for none.
        journal: of the study.
        planner: builds stages.
        builder: knows the phases that there are; those of a round are added to it.

    Attributes:
        numbers: of the phases that were added, their round, from 1.
    """

    def __init__(
        self, settings: FollowUp | None, journal: Journal, planner: Planner, builder: StageBuilder
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.planner = planner
        self.builder = builder
        self.numbers: dict[str, int] = {}

    def next(self, stages: Sequence[Stage], last: Stage) -> list[str]:
        """The names of the phases of the next round; none where there is none, and why is told.

        Args:
            stages: what ran so far.
            last: the phase whose winner is the final configuration so far.
        """
        if self.settings is None:
            return []
        number = max(self.numbers.values(), default=0) + 1
        reason, found = self._ended(stages, number), list[tuple[str, PhaseConfig, Stage]]()
        if not reason:
            found = self._round(number, stages, last)
            reason = "" if found else "nothing is left to propose"
        count = len(self.builder.tree.names)
        if not found:
            del self.journal.phases[count:]  # what an earlier call proposed, and this one does not
            self.journal.rounds_ended = reason
            self.journal.write()
            say(f"\nfollow-up: {reason} ({_rounds(number - 1)})")
            return []
        specs = {**self.builder.specs}
        say(f"\nfollow-up, round {number} of at most {self.settings.rounds}:")
        for name, spec, _ in found:
            specs[name] = spec
            self.numbers[name] = number
            say(f"  {name}: {spec.reason}")
        self.builder.specs, self.builder.tree = specs, tree_of_specs(specs)
        self.journal.phases[count:] = [self.mark(stage).phase for _, _, stage in found]
        self.journal.rounds_ended = ""
        self.journal.write()
        return [name for name, _, _ in found]

    def mark(self, stage: Stage) -> Stage:
        """Note in a phase in which round it is."""
        stage.phase.round = self.numbers.get(stage.phase.name, 0)
        return stage

    def _ended(self, stages: Sequence[Stage], number: int) -> str:
        assert self.settings is not None
        if any(stage.phase.out_of_hours is not None for stage in stages):
            return "the time was up"
        return "these were all rounds" if number > self.settings.rounds else ""

    def _round(
        self, number: int, stages: Sequence[Stage], last: Stage
    ) -> list[tuple[str, PhaseConfig, Stage]]:
        known = {job.fingerprint for one in stages for jobs in one.jobs for job in jobs}
        found: list[tuple[str, PhaseConfig, Stage]] = []
        for proposal in _in_turn(self._proposed(stages, last)):
            if proposal.rule == LAST and found:
                break
            source = {} if found else {"from": last.phase.name}
            spec = PhaseConfig.model_validate({**proposal.phase(), **source})
            name = f"round{number}_{proposal.name}"
            stage = self.planner.stage(name, spec, self._base(last))
            prints = {job.fingerprint for jobs in stage.jobs for job in jobs}
            if not stage.problems and not prints <= known:
                found.append((name, spec, stage))
        return found

    def _base(self, last: Stage) -> list[str]:
        assert last.phase.winner is not None
        return self.planner.winner_words(last, last.phase.winner)

    def _proposed(self, stages: Sequence[Stage], last: Stage) -> Sequence[Proposal]:
        # the analysis builds on the study's files; only what is proposed comes back from it
        from phasewise.analysis.proposals import NothingDecided, propose

        directory = self.journal.directory
        phases = [stage.phase for stage in stages]
        results = [read_phase(phase, directory) for phase in phases]
        study = StudyResult(replace(self.journal, phases=phases), results)
        base, composer = self._base(last), self.planner.composer

        def can_run(cell: Sequence[str]) -> bool:
            words = tuple(self.planner.choices.join(base, cell))
            return composer.try_fingerprint(words, "", {}) is not None

        try:
            found = propose(study, can_run)
        except NothingDecided:
            return []
        # another validation judges anew what was found: that is a study of its own
        return [one for one in found.phases if not one.settings]


def _in_turn(proposals: Sequence[Proposal]) -> Iterator[Proposal]:
    unsettled = any(one.rule == UNSETTLED for one in proposals)
    return (one for one in proposals if not (unsettled and one.rule == WAITING))


def _rounds(count: int) -> str:
    return f"{count} round{'' if count == 1 else 's'}"


def known_rounds(journal: Journal, old: Journal | None, settings: FollowUp | None) -> list[str]:
    """Keep the rounds of an earlier call in the plan, and say what is known of those to come."""
    if settings is None:
        return []
    there = [phase for phase in (old.phases if old is not None else ()) if phase.round]
    journal.phases += there
    count = max((phase.round for phase in there), default=0)
    hours = "" if settings.max_hours is None else f" within {settings.max_hours:g} hours"
    known = f"{_rounds(count)} of an earlier call among these, " if count else ""
    return [
        f"follow-up: {known}up to {_rounds(settings.rounds)}{hours}; what each asks follows from "
        "the results before it"
    ]

"""Runs the phases of a study; each starts from the winner of one before it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from phasewise.errors import UserError, say
from phasewise.records.record import RunRecord, read_record
from phasewise.study.branches import decide_branches
from phasewise.study.console import print_decision, print_trials
from phasewise.study.constraints import NameCheck
from phasewise.study.decision import decide
from phasewise.study.final_test import TEST, FinalTest
from phasewise.study.follow_up import Rounds
from phasewise.study.halving import halve, last_records, ran_jobs, remove_rung_weights
from phasewise.study.hours import HourLimits
from phasewise.study.journal import Journal
from phasewise.study.launching import TrialExecutor
from phasewise.study.leaves import best_leaf
from phasewise.study.log_names import write_logs
from phasewise.study.membership import Membership, Memberships, role_of
from phasewise.study.memory_limits import MemoryLimits
from phasewise.study.naming import trial_name
from phasewise.study.overrides import merge
from phasewise.study.plan import Planner, Stage
from phasewise.study.progress import Progress
from phasewise.study.reports import Reporter
from phasewise.study.results import objective_value
from phasewise.study.reuse import RunIndex
from phasewise.study.schema import StudyConfig
from phasewise.study.searching import Searcher
from phasewise.study.side_by_side import batches, share_trials
from phasewise.study.starts import StageBuilder, runs_of
from phasewise.study.table import REFUSED, mark_infeasible, placeholder_record
from phasewise.study.trial_job import TrialJob
from phasewise.study.undecided import explain_undecided
from phasewise.study.varied import VARIED, varied_keys
from phasewise.study.weights import (
    Policy,
    Room,
    decided_on,
    forget,
    remove_all,
    remove_needless,
)

log = logging.getLogger(__name__)


class Runner:
    """Runs what a journal has planned and writes down what came of it.

    Args:
        journal: the journal, with a planned phase for each of ``study.phases``.
        study: the settings.
        planner: builds the stages again, from the winners.
        executor: runs the trials.
        index: of what was computed before.
        test: whether the test data are looked at in the end.
        keeps: which weights stay; None where trials are of an application that keeps its own.
        old: the journal of an earlier call.

    Attributes:
        stages: what ran so far.
        ended: why it ended with a phase that decided nothing.
    """

    def __init__(
        self,
        journal: Journal,
        study: StudyConfig,
        planner: Planner,
        executor: TrialExecutor,
        index: RunIndex,
        *,
        test: bool,
        keeps: Policy | None = None,
        old: Journal | None = None,
    ) -> None:
        self.journal = journal
        self.study = study
        self.planner = planner
        self.executor = executor
        self.index = index
        self.test = test
        self.keeps = keeps
        self.stages: list[Stage] = []
        self.ended: str | None = None
        self.reporter = Reporter(journal.directory, study.report)
        self.builder = StageBuilder(planner, study.phases, journal.base)
        self.rounds = Rounds(study.follow_up, journal, planner, self.builder)
        self._memberships = Memberships(journal.name)
        self._limits = MemoryLimits(planner.composer, study.memory_grows_with)
        self._hours = HourLimits(study, old)
        if self._hours.limited:
            executor.keep_batches_small()
        self._before = {phase.name: phase for phase in (old.phases if old else ())}
        self._names = NameCheck()
        self._spared = decided_on(old)
        self.room = None if keeps is None else Room(journal, keeps, index.records())

    def run(self, first: Stage) -> None:
        """Run all phases, those that follow from them, then look at the test data.

        Args:
            first: the first phase as planned.
        """
        # limits in hours are those of one phase at a time
        together = not self.executor.in_process and not self._hours.limited
        self._run_steps(self.builder.tree.steps(side_by_side=together), first)
        if self.ended:
            return
        last, base = self._conclude()
        while names := self.rounds.next(self.stages, last):
            self._run_steps([name] for name in names)
            if self.ended:
                return
            last, base = self._conclude()
        final = FinalTest(self.journal, self.planner, self.executor, refit=self.study.refit)
        if self.test and final.is_possible(last):
            stage = final.stage(base, last)
            self._run([stage])
            if self.keeps is not None:
                final.score_seeds(stage)
            final.tell(stage)
        else:
            self._keep_winner(last)
            if self.test:
                final.tell(final.stage(base, last), last, self.stages[0])
        if self.keeps == "none":
            remove_all(self.stages)
        elif self.keeps is not None and self._spared:  # an earlier call's decisions are no more
            remove_needless(self.stages, self.keeps)
        self._memberships.settle()

    def _run_steps(self, steps: Iterable[Sequence[str]], first: Stage | None = None) -> None:
        """Run phases by name, until one of them decides nothing; ``first`` is built already."""
        for names in steps:
            stages = [
                first if first and it == first.phase.name else self._decided(it) for it in names
            ]
            for group in batches(stages):
                self._run(group)
            for stage in stages:
                if stage.phase.winner is None and stage.phase.name:
                    self.ended = explain_undecided(stage.phase, self._needed(stage))
                    return

    def _decided(self, name: str) -> Stage:
        """A phase that starts from what those before it have decided."""
        known = {stage.phase.name: stage for stage in self.stages}
        return self.rounds.mark(self.builder.decided(name, known, self.executor.outcome))

    def _conclude(self) -> tuple[Stage, list[str]]:
        """The phase whose winner is the final configuration, and the words of that."""
        known = {stage.phase.name: stage for stage in self.stages}
        leaves = [known[name] for name in self.builder.tree.leaves]
        last, reason = best_leaf(leaves, self.builder.goal, self.executor.outcome)
        if reason:
            self.journal.last, self.journal.last_reason = last.phase.name, reason
            self.journal.write()
            say(f"\nthe study ends with the winner of {last.phase.name}: {reason}")
        row = last.phase.winner  # of a sweep there may be none
        return last, [] if row is None else self.planner.winner_words(last, row)

    def jobs(self) -> Iterator[tuple[Stage, TrialJob]]:
        """All trials so far, each directory once."""
        seen = set()
        for stage in self.stages:
            for job in ran_jobs(stage):
                if job.subdir not in seen:
                    seen.add(job.subdir)
                    yield stage, job

    def records(self, stage: Stage) -> list[RunRecord]:
        """The records of a stage's trials, each with the overrides that its phase gave it."""
        found = []
        for row, candidate in enumerate(stage.phase.candidates):
            last = last_records(stage, row, self.executor.outcome)  # none if refused
            for seed, (job, record) in zip(stage.phase.seeds, last, strict=False):
                extra = self.planner.seed_words(stage.phase, seed)
                words = list(job.words) if not stage.phase.name else [*candidate.overrides, *extra]
                marked = mark_infeasible(record, candidate)
                found.append(replace(marked, overrides=words))
            if candidate.refused is not None:
                place = self.journal.directory / stage.phase.name / trial_name(candidate.overrides)
                nothing = placeholder_record(place, candidate.overrides)
                found.append(replace(nothing, status=REFUSED, error=candidate.refused))
        return found

    def _needed(self, stage: Stage) -> list[RunRecord]:
        """The results without which nothing can be decided: all, or the incumbent's alone."""
        outcomes = [[self.executor.outcome(job) for job in jobs] for jobs in stage.jobs]
        row = stage.phase.incumbent
        some = any(math.isfinite(objective_value(one)) for found in outcomes for one in found)
        return outcomes[row] if some and row is not None else [one for it in outcomes for one in it]

    def _number(self, stage: Stage) -> int:
        """The place of a phase in the study's file, from 0; the test comes after all of them."""
        return [*self.builder.tree.names, TEST].index(stage.phase.name)

    def _run(self, group: Sequence[Stage]) -> None:
        """Run and decide a phase, or several that are launched together."""
        for stage in group:
            phase, number = stage.phase, self._number(stage)
            self.stages.append(stage)
            self.journal.phases[number : number + 1] = [phase]
            for note in stage.notes if number else ():  # the plan has told those of the first phase
                log.info("\n%s: %s", phase.name, note)
            self._hours.keep(phase)
            phase.status = "running"
        if group[0].phase.search is None:
            self._prepare(group)
        try:
            self._train(group)
            runs = [self._decide(it) if it.phase.kind != TEST else [] for it in group]
        finally:  # what there is, and with a star what was decided, if it came to that
            for stage in group:
                print_trials(stage.phase, self.records(stage), self.journal.directory)
        for stage, found in zip(group, runs, strict=True):
            self._finish(stage, found)

    def _train(self, group: Sequence[Stage]) -> None:
        more, stage = self._around(), group[0]
        jobs = [job for it in group for row in it.jobs for job in row]
        if stage.phase.kind == TEST:
            more.append("test=true")
            forget(job for job in jobs if self.keeps != "none" or self._lacks_test(job))
        if stage.phase.search is not None:
            self._search(stage, more)
        elif stage.phase.halving is not None:
            self._launch_all(stage, more)
        else:
            name = " and ".join(it.phase.name for it in group)
            progress = self._progress(stage, len({job.subdir for job in jobs}), name)
            self._launch(stage, jobs, more, progress)

    def _finish(self, stage: Stage, runs: Sequence[dict[int, RunRecord]]) -> None:
        """Tell and write down what was decided, and remove what nobody needs any more."""
        phase = stage.phase
        if phase.kind != TEST:
            print_decision(phase, runs, self.journal.directory)
        phase.status = "completed"
        self.journal.write()
        write_logs(self.journal, self.study.log_names)
        if self.keeps is not None:
            self._spare_start(stage)
            remove_needless(self.stages, self.keeps, self._spared)
            remove_rung_weights(stage, self.keeps)
        if phase.name and self.executor.returns:  # else there is nothing new, and no last report
            self.reporter.update()
        for job in (job for jobs in stage.jobs for job in jobs):
            record = read_record(job.directory)
            if record is not None:
                self.index.add(record)

    def _prepare(self, group: Sequence[Stage]) -> None:
        """Before trials are launched: what is there is found, and they are written down."""
        for stage in group:
            self.index.set_aside(stage, self.planner.composer)
            self.index.reuse(stage)
        share_trials(group)
        self._note_membership(group)
        jobs = [(job, it) for it in group for jobs in it.jobs for job in jobs]
        if group[0].phase.search is None or not all(self._is_done(*one) for one in jobs):
            self.journal.write()  # what is asked for again stands there already

    def _search(self, stage: Stage, more: Sequence[str]) -> None:
        if stage.phase.halving is None:  # else each batch is several
            stage.progress = self._progress(stage, stage.phase.planned_trials)

        def launch(part: Stage) -> None:
            self._prepare([part])
            self._launch_all(part, more)

        searcher = Searcher(stage, self.planner, launch, self.executor.outcome, self._hours.are_up)
        searcher.run(self._before.get(stage.phase.name))

    def _launch_all(self, stage: Stage, more: Sequence[str]) -> None:
        if stage.phase.halving is not None:
            halve(stage, lambda jobs: self._launch(stage, jobs, more))
        else:
            self._launch(stage, [job for jobs in stage.jobs for job in jobs], more)

    def _around(self) -> list[str]:
        """Overrides that concern the launch of trials, not what they compute."""
        keys = ",".join(f"'{key}'" for key in varied_keys(self.journal))
        words = [f"++{VARIED}=[{keys}]", *(["study.isolate=true"] if self.study.isolate else [])]
        return words if self.keeps is None else [*words, f"study.checkpoints={self.keeps}"]

    def _lacks_test(self, job: TrialJob) -> bool:
        record = read_record(job.directory)
        return record is not None and record.is_of(job.fingerprint) and record.test is None

    def _launch(
        self,
        stage: Stage,
        jobs: Sequence[TrialJob],
        more: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        """Run those trials that are not done, each directory once.

        Args:
            stage: of these trials; one of several that are launched together.
            jobs: of which some may be done.
            more: overrides of this launch.
            progress: if it is not one launch of several.
        """
        unique = list({job.subdir: job for job in jobs}.values())
        waiting = [job for job in unique if not self._is_done(job, stage)]
        progress = progress or stage.progress or self._progress(stage, len(unique))
        progress.done += len(unique) - len(waiting)
        for job in unique:
            record = read_record(job.directory)
            if record is not None and job not in waiting:
                progress.note(job.name, record)
                self._limits.note(record)
                self._hours.note(record, stage.phase.name)
        if stage.progress is None and (done := len(unique) - len(waiting)):
            where = f"{progress.phase}: " if progress.phase else ""
            log.info("\n%s%d of %d trials are done", where, done, len(unique))
        compares = stage.phase.kind != TEST and stage.phase.winner is None

        def known(job: TrialJob) -> RunRecord | None:
            left = self._hours.refuse(self.stages[-1].phase, job)
            # what won can be trained
            return left or (self._limits.infer(job) if compares else None)

        self.executor.run(waiting, more, progress, known)
        self._check_data(waiting)

    def _progress(self, stage: Stage, total: int, name: str | None = None) -> Progress:
        name, mode = name or stage.phase.name, stage.phase.objective["mode"]
        return Progress(name, total, 0, sum(self._later()), mode, ended=self._note_end)

    def _later(self) -> list[int]:
        """How many trials each of the phases has that have not begun, as far as they are known."""
        begun = {stage.phase.name for stage in self.stages}
        return [it.planned_trials for it in self.journal.phases if it.name not in begun]

    def _note_end(self, record: RunRecord | None, left: int) -> None:
        """A trial has ended, and others of its phase are left."""
        self._limits.note(record)
        self._hours.note(record, self.stages[-1].phase.name)
        self._names.note(record, self.stages[-1].phase)
        if self.room is not None and record is not None:
            self.room.add(record)
            self.room.tell([left, *self._later()])

    def _check_data(self, jobs: Sequence[TrialJob]) -> None:
        """See that trials ran on what was planned.

        Raises:
            UserError: the data, or a file that the settings name, changed meanwhile.
        """
        for job in jobs:
            record = read_record(job.directory)
            if record is not None and not record.is_of(job.fingerprint):
                raise UserError(
                    "the data, or a file that the settings name, changed while the study ran, "
                    f"before {job.subdir}: nothing is decided; the same command says what differs"
                )

    def _is_done(self, job: TrialJob, stage: Stage) -> bool:
        record = read_record(job.directory)
        if record is None or not record.is_of(job.fingerprint) or not record.was_tried:
            return False
        if record.status == "paused":
            return job.pause is not None and (record.cost.get("epochs") or 0) >= job.pause
        if record.status != "completed":
            return record.is_final and not self.study.retry_failed
        # the phase's status is the earlier call's: its data may have no test split
        return stage.phase.kind != TEST or record.test is not None

    def _note_membership(self, group: Sequence[Stage]) -> None:
        """Note what each trial is in these phases, for its record."""
        for stage in group:
            for row, jobs in enumerate(stage.jobs):
                role = role_of(stage.phase, row)
                place = Membership(self._number(stage) + 1, stage.phase.name, role)
                for job in jobs:
                    self._memberships.add(job.directory, place)
        for jobs in (jobs for stage in group for jobs in stage.jobs):
            jobs[:] = [replace(job, part=self._memberships.word(job.directory)) for job in jobs]

    def _decide(self, stage: Stage) -> list[dict[int, RunRecord]]:
        """Choose the winner; returns the records of each candidate by seed."""
        runs = runs_of(stage, self.executor.outcome)
        significant = self.study.adopt == "significant"
        rule = partial(decide, significant=significant, alpha=self.study.alpha)
        rule(stage.phase, runs)
        decide_branches(stage.phase, runs, rule)
        return runs

    def _spare_start(self, stage: Stage) -> None:
        """The starting configuration is tested, whichever phase has trained it with a seed."""
        identity = self.planner.composer.try_fingerprint
        for column, seed in enumerate(stage.phase.seeds if self.test else ()):
            words = merge(self.journal.base, self.planner.seed_words(stage.phase, seed))
            own = identity(words, "start", {})
            jobs = [jobs[column] for jobs in stage.jobs if jobs]
            self._spared.update(job.directory for job in jobs if job.fingerprint == own)

    def _keep_winner(self, stage: Stage) -> None:
        """Nothing else trains the last winner again, where its weights are gone."""
        row = stage.phase.winner
        wanted = self.keeps in ("winners", "best") and row is not None
        if jobs := forget(stage.jobs[row or 0]) if wanted else []:
            self._launch(stage, jobs, self._around())

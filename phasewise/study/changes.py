"""What a study's file that has changed since the last call does, told before it happens.

Phase by phase, from the records that are there: what is new, what is there already, what moves and
what another winner would change. Nothing is moved or written here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from phasewise.records.record import RunRecord, read_record
from phasewise.study.branches import decide_branches
from phasewise.study.compatibility import ERRORS
from phasewise.study.decision import decide
from phasewise.study.journal import Candidate, Journal, Phase
from phasewise.study.plan import Planner, Stage
from phasewise.study.reuse import SUPERSEDED, RunIndex, foreign_runs
from phasewise.study.schema import StudyConfig
from phasewise.study.starts import StageBuilder, runs_of
from phasewise.study.table import placeholder_record
from phasewise.study.trial_job import TrialJob

ASKED_BY = ("sampler", "trials", "parallel", "startup", "seed")
"""What decides, beside the space, which trials a search asks for."""

log = logging.getLogger(__name__)


def changes(
    builder: StageBuilder, old: Journal | None, index: RunIndex, study: StudyConfig
) -> list[str]:
    """A line for each phase of which something changes; none where an earlier call just goes on.

    Args:
        builder: builds the phases.
        old: the journal of the earlier call.
        index: of the runs that are there.
        study: the settings now.
    """
    if old is None or "" in builder.tree.parents:  # a plain sweep
        return []
    forecast = _Forecast(builder, old, index, study)
    try:
        lines = [*forecast.lines()]
    except ERRORS as error:  # told where it happens
        log.debug("no forecast: %s", error)
        return []
    return [f"since the last call: {lines[0]}", *lines[1:]] if lines else []


class _Forecast:
    """Goes through the phases as a run would.

    Args:
        builder, old, index, study: see `changes`.
    """

    def __init__(
        self, builder: StageBuilder, old: Journal, index: RunIndex, study: StudyConfig
    ) -> None:
        self.builder, self.index, self.study = builder, index, study
        self.before = {phase.name: phase for phase in old.phases if phase.kind != "test"}
        self.stages: dict[str, Stage] = {}
        self.assumed: dict[str, str] = {}
        """Phases with new trials, and the winner that they are taken to keep."""
        self.used: set[Path] = set()
        self.unknown: set[str] = set()
        self.coming: set[str] = set()
        """What earlier phases have run, or will have, when a phase begins."""
        self.taken: set[Path] = set()
        """Directories whose runs earlier phases have moved to themselves."""

    def lines(self) -> Iterator[str]:
        """What is to be told, if something changes that was there."""
        tree = self.builder.tree
        for name in tree.names:
            upstream = tree.upstream(name)
            if open_ones := [one for one in upstream if one in self.unknown]:
                self.unknown.add(name)
                if name in self.before and self.before[name].status != "pending":
                    yield f"{name}: depends on what {open_ones[-1]} finds"
                continue
            stage = self.builder.decided(name, self.stages, self._outcome)
            self.stages[name] = stage
            text = self._of_phase(stage)
            given = [one for one in upstream if one in self.assumed]
            if given and name in self.before and self.before[name].status == "completed":
                last = given[-1]
                text = f"if {last} stays with {self.assumed[last]}: {text or 'as it is'}"
            if text:
                yield f"{name}: {text}"
        yield from self._gone()

    def _of_phase(self, stage: Stage) -> str:
        """What changes of a phase; empty where nothing does."""
        phase, old = stage.phase, self.before.get(stage.phase.name)
        if phase.search is not None and old is not None and old.base == phase.base:
            _ask_again(stage, old, self.builder.planner)
        jobs = list({job.fingerprint: job for row in stage.jobs for job in row}.values())
        known = self.coming | _stopped(phase, old)
        there = [job for job in jobs if self._is_done(job) or job.fingerprint in known]
        moved: Counter[str] = Counter()
        for job in jobs:
            run = None if job in there else self.index.find(job.fingerprint)
            if run is not None:
                there.append(job)
                if run.directory not in self.used:
                    moved[_folder(run.directory, self.index.directory)] += 1
                    self.taken.add(run.directory)
                self.used.add(run.directory)
            self.used.add(job.directory)
        self.coming.update(job.fingerprint for job in jobs)
        set_aside = len(self._away(stage))
        new = len(jobs) - len(there)
        # a phase that was under way just goes on
        decided = old is not None and old.status == "completed"
        texts = [f"{new} of {len(jobs)} new"] if new and (decided or moved or set_aside) else []
        texts += [f"{count} come from {folder}" for folder, count in moved.items()]
        texts += (
            [f"{_runs(set_aside)} to be moved to {SUPERSEDED}/{phase.name}"] if set_aside else []
        )
        if old is None:
            texts = texts or ["a new phase" + (f", {new} of {len(jobs)} new" if new else "")]
        rest = len(there) - sum(moved.values())
        texts += [f"{rest} there"] if texts and rest else []
        edited = _search_edited(phase, old)
        texts += [edited] if edited else []
        texts += self._winner(stage, old, is_complete=not new and not edited)
        left = self._left(stage, old) if not self.assumed and old is not None else 0
        texts += [f"{_runs(left)} not compared any more and kept in {phase.name}/"] if left else []
        return ", ".join(texts)

    def _winner(self, stage: Stage, old: Phase | None, *, is_complete: bool) -> list[str]:
        """Decide a phase, by its records or as an earlier call did, and tell what differs."""
        if not is_complete or stage.phase.halving is not None:
            return self._assume(stage, old, is_complete)
        phase, runs = stage.phase, runs_of(stage, self._outcome)
        significant = self.study.adopt == "significant"
        rule = partial(decide, significant=significant, alpha=self.study.alpha)
        rule(phase, runs)
        decide_branches(phase, runs, rule)
        if phase.winner is None:
            self.unknown.add(phase.name)
            return []
        now = phase.candidates[phase.winner]
        if old is None or old.winner is None:
            return []
        was = old.candidates[old.winner]
        same = _same(old, was, phase, now)
        return [] if same else [f"its winner becomes {_words(now)} (it was {_words(was)})"]

    def _assume(self, stage: Stage, old: Phase | None, is_complete: bool) -> list[str]:
        """Go on as if the winner stayed, or, of a new phase, what it starts from."""
        phase, told = stage.phase, list[str]()
        if old is None:
            phase.winner, words = phase.incumbent, "the configuration before"
        elif old.winner is not None:
            was = old.candidates[old.winner]
            rows = enumerate(phase.candidates)
            phase.winner = next((row for row, it in rows if _same(old, was, phase, it)), None)
            words, changed = _words(was), "its winner may change"
            if phase.winner is None:
                changed = f"its winner was {words}, which is no candidate any more"
            told = [changed] if old.status == "completed" and not is_complete else []
        if phase.winner is None:
            self.unknown.add(phase.name)
            return told
        _keep_branches(phase, old)
        if not is_complete:
            self.assumed[phase.name] = words
        return told

    def _is_done(self, job: TrialJob) -> bool:
        record = read_record(job.directory)
        if record is None or not record.is_of(job.fingerprint):
            return False
        if record.status in ("completed", "paused"):
            return True
        return record.is_final and not self.study.retry_failed

    def _outcome(self, job: TrialJob) -> RunRecord:
        record = read_record(job.directory)
        if record is not None and record.is_of(job.fingerprint) and record.is_final:
            return record
        return self.index.find(job.fingerprint) or placeholder_record(job.directory, job.words)

    def _away(self, stage: Stage) -> set[Path]:
        """Directories of a phase whose runs are of another start, and move to superseded/."""
        away = foreign_runs(stage, self.builder.planner.composer)
        return {self.index.directory / it for names in away.values() for it in names} - self.taken

    def _left(self, stage: Stage, old: Phase) -> int:
        """Runs in the folder of a phase that it compared in the call before, and does not now."""
        own = {job.directory for jobs in stage.jobs for job in jobs}
        moved = self._away(stage)
        folder = self.index.directory / stage.phase.name
        compared = {it.directory for one in old.candidates for it in one.trials}
        before = {self.index.directory / it for it in compared}
        there = before.intersection(record.directory for record in self.index.records())
        return sum(it.parent == folder and it not in own | moved | self.used for it in there)

    def _gone(self) -> Iterator[str]:
        for name, phase in self.before.items():
            comes_again = phase.round and self.study.follow_up is not None
            if name not in self.builder.tree.parents and not comes_again:
                folder = self.index.directory / name
                records = self.index.records()
                count = sum(it.directory.parent == folder for it in records)
                moved = sum(
                    it.directory.parent == folder and it.directory in self.used for it in records
                )
                rest = count - moved
                if rest or not count:
                    stay = f"; {_runs(rest)} kept in {name}/" if rest else ""
                    yield f"{name}: no phase any more{stay}"


def _folder(run: Path, study: Path) -> str:
    found = run.relative_to(study).as_posix()
    return found.rpartition("/")[0] or found


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _words(candidate: Candidate) -> str:
    return " ".join(candidate.overrides) or "the configuration before"


def _same(old: Phase, was: Candidate, phase: Phase, now: Candidate) -> bool:
    """Whether two candidates are one configuration: some run of theirs is the same, or, where they
    run with other seeds or from another start, their words are."""
    prints = {trial.fingerprint for trial in was.trials}
    if any(trial.fingerprint in prints for trial in now.trials):
        return True
    same_words = {*old.base, *was.overrides} == {*phase.base, *now.overrides}
    return same_words or (bool(was.overrides) and was.overrides == now.overrides)


def _search_edited(phase: Phase, old: Phase | None) -> str:
    """What differs in who asks, and where: then other trials may be asked for than before."""
    if old is None or old.search is None or phase.search is None:
        return ""
    before, now = old.search, phase.search
    values = {it: (getattr(before, it), getattr(now, it)) for it in ASKED_BY}
    found = [f"{key} {was}, now {is_}" for key, (was, is_) in values.items() if was != is_]
    where = (before.fixed, before.space), (now.fixed, now.space)
    found += ["another space"] if where[0] != where[1] else []
    if not found:
        return ""
    return f"it asks anew ({', '.join(found)}), and what is there is not run again"


def _stopped(phase: Phase, old: Phase | None) -> set[str]:
    """Trials that halving by the values of a key has stopped before their last run, and stops again
    while it halves in the same way."""
    if old is None or old.halving is None or phase.halving is None:
        return set()
    keys = ("unit", "rungs", "factor", "brackets", "asynchronous", "parallel")
    if any(getattr(old.halving, key) != getattr(phase.halving, key) for key in keys):
        return set()
    stopped = (one for one in old.candidates if one.epochs is not None)
    return {trial.fingerprint for one in stopped for trial in one.trials}


def _ask_again(stage: Stage, old: Phase, planner: Planner) -> None:
    """What a search has asked for before; in branches that started from the same."""
    starts = {it.level: old.candidates[it.incumbent or 0].overrides for it in old.branches}
    branches = {it.level: it for it in stage.phase.branches}
    levels = {row: it.level for it in old.branches for row in it.candidates}
    for row, one in enumerate(old.candidates):
        branch = branches.get(levels.get(row, ""))
        if branch is not None:
            assert branch.incumbent is not None
            if stage.phase.candidates[branch.incumbent].overrides != starts[branch.level]:
                continue
        elif levels:
            continue
        if planner.add_once(stage, one.overrides) and branch is not None:
            branch.candidates.append(len(stage.phase.candidates) - 1)


def _keep_branches(phase: Phase, old: Phase | None) -> None:
    """The winners of branches as an earlier call chose them, else what they start from."""
    known = {branch.level: branch for branch in (old.branches if old is not None else ())}
    for branch in phase.branches:
        branch.winner = branch.incumbent
        was = known.get(branch.level)
        if was is not None and was.winner is not None and old is not None:
            winner = old.candidates[was.winner]
            rows: Sequence[int] = branch.candidates
            same = [r for r in rows if _same(old, winner, phase, phase.candidates[r])]
            branch.winner = same[0] if same else branch.incumbent

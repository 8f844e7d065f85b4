"""The look at the test data at the end of a study, and its last words."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from phasewise.records.record import read_record
from phasewise.study.console import print_final
from phasewise.study.ensemble import score_seeds
from phasewise.study.journal import Journal, Phase
from phasewise.study.launching import TrialExecutor
from phasewise.study.naming import parse_override
from phasewise.study.overrides import merge
from phasewise.study.plan import REFIT, Planner, Stage
from phasewise.study.saved_config import SavedConfig
from phasewise.study.schema import PhaseConfig

TEST = "test"

log = logging.getLogger(__name__)


class FinalTest:
    """Of the configuration that the phases have come to, and the one that they started from.

    Args:
        journal: of the study.
        planner: builds the stage.
        executor: has run the trials.
        refit: whether both are trained on validation data too before.
    """

    def __init__(
        self, journal: Journal, planner: Planner, executor: TrialExecutor, *, refit: bool
    ) -> None:
        self.journal = journal
        self.planner = planner
        self.executor = executor
        self.refit = refit
        self.application = planner.composer.application

    def is_possible(self, stage: Stage) -> bool:
        """Whether there is a test split; without one nothing is trained for it."""
        records = [read_record(job.directory) for job in stage.jobs[stage.phase.winner or 0]]
        if self.application.writes_records:
            lacks = any(it is not None and it.lacks_test_split for it in records)
        else:
            lacks = not all(it is not None and it.test for it in records)
        if self.refit or not lacks:
            return True
        log.info(
            "\nthere is no test split: what the winner of the last phase scores on validation "
            "data stands for it, by which it was selected"
        )
        return False

    def score_seeds(self, stage: Stage) -> None:
        """Intervals and the ensemble, where all seeds of the final configuration were tested."""
        found = [[read_record(job.directory) for job in jobs] for jobs in stage.jobs]
        tested = [[it for it in each if it is not None and it.test] for each in found]
        if len(tested[0]) == len(found[0]):
            place = self.journal.directory / stage.phase.name
            start = [record for each in tested[1:] for record in each]
            score_seeds(place, tested[0], start, here=self.executor.in_process)

    def stage(self, base: Sequence[str], last: Stage) -> Stage:
        """The final configuration and, if it is another one, the starting one.

        Over the seeds that the study names, and those with which the last phase has trained.
        """
        seeds = list(dict.fromkeys([*(self.planner.seeds or []), *last.phase.seeds]))
        start = self.journal.base
        phase = Phase(TEST, "test", self.journal.objective, seeds, base=list(start))
        phase.objectives = self.planner.goals.objectives
        stage = Stage(phase, PhaseConfig(overrides=["test=true"]))
        refit = list(REFIT) if self.refit else []
        identity = self.planner.composer.fingerprint
        if identity(base) != identity(start):  # words alone may say what the start is anyway
            own = [word for word in base if word not in start]
            self.planner.add(stage, merge(own, refit))
        self.planner.add_once(stage, refit)
        return stage

    def tell(self, stage: Stage, last: Stage | None = None, first: Stage | None = None) -> None:
        """The last words: scores on test data, if they were looked at, and how to train it again.

        Args:
            stage: of the test, whose candidates have trials of their own only if it was run.
            last, first: where it was not: the phase that the final configuration comes from, and
                the one that began.
        """
        trained = stage.jobs
        if last is not None and first is not None:
            rows = [(last, last.phase.winner), (first, first.phase.incumbent)]
            trained = [one.jobs[row or 0] for one, row in rows]
        once = {jobs[0].directory: jobs for jobs in trained}
        records = [[self.executor.outcome(job) for job in jobs] for jobs in once.values()]
        words, there = stage.jobs[0][0].words, [trained[0][0], trained[-1][0]]
        start = self.journal.base
        seeds = (f"{self.application.seed_key}=",)
        words = tuple(w for w in words if w in start or not w.startswith(seeds))
        final, before = (SavedConfig(job.directory) for job in there)
        overrides = stage.phase.candidates[0].overrides
        keys = {word: parse_override(word).key_or_group for word in overrides}
        changed = [
            word
            for word, key in keys.items()
            if word not in REFIT and final.get(key) != before.get(key)
        ]
        print_final(self.journal, records, sys.argv[0], words, changed, there[0].directory)

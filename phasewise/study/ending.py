"""How a study ends: what its journal says then, its report, and which trials did not complete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from phasewise.errors import Problem, StorageError, UserError
from phasewise.records.record import DATA_MARK, RunRecord, read_record
from phasewise.storage import storage_error
from phasewise.study.console import log_of
from phasewise.study.journal import Journal
from phasewise.study.phases import Runner
from phasewise.study.plan import Stage
from phasewise.study.reports import PAGE
from phasewise.study.table import LEFT_OUT, trial_labels


class SweepFailed(UserError):
    """The sweep ran, but not every trial completed."""

    exit_code = 1


def run_to_end(runner: Runner, first: Stage, old: Journal | None) -> None:
    """Run all phases; the journal says how that ended, unless ``old`` did so already.

    Raises:
        SweepFailed: a trial did not complete.
        StorageError: a disk is full or fails; the study stays where it stands.
    """
    journal = runner.journal
    try:
        runner.run(first)
    except BaseException as stop:  # Ctrl-C, sys.exit in a job, a launcher that lost its workers
        full = storage_error(stop)  # nothing was decided, and nobody is to blame
        again = full is not None or isinstance(stop, KeyboardInterrupt)
        journal.status = "interrupted" if again else "failed"
        with suppress(StorageError):
            journal.write()
        runner.reporter.stop()
        if full is not None:
            raise full from stop
        raise
    records = [runner.executor.outcome(job) for _, job in runner.jobs()]
    if not any(record.fingerprint for record in records):
        for job in (job for batch in runner.executor.returns for job in batch):
            _ = job.return_value  # raises what the job raised
        return
    bad = _failed(runner, records)
    journal.status = "failed" if bad or runner.ended else "completed"
    journal.reported = old is not None and old.reported
    journal.write()
    same = journal == old and not runner.executor.returns
    if not (same and journal.reported and (journal.directory / PAGE).exists()):
        journal.reported = runner.reporter.finish()
        journal.write()
    if runner.ended is not None:
        raise SweepFailed(runner.ended)
    if bad:
        raise SweepFailed(_failures(journal, bad, records))


def _failed(runner: Runner, records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """The trials that neither completed nor were stopped by halving, each with a final record."""
    pruned = {
        trial.directory
        for _, candidate, trial in runner.journal.trials()
        if candidate.epochs is not None
    }
    bad = {}
    for (stage, job), record in zip(runner.jobs(), records, strict=True):
        if record.status in ("completed", LEFT_OUT) or (
            record.status == "paused" and job.subdir in pruned
        ):
            continue
        bad[job.subdir] = record
        there = read_record(job.directory)
        if record.status == "failed" and (there is None or there.status == "running"):
            written = RunRecord.start(
                job.directory,
                task=runner.journal.task,
                fingerprint=job.fingerprint.partition(DATA_MARK)[0],
                overrides=job.words,
                seed=None,
                metric=stage.phase.objective["metric"],
                mode=stage.phase.objective["mode"],
            )
            written.finish("failed", error=record.error)
    return bad


def _failures(journal: Journal, bad: dict[str, RunRecord], records: Sequence[RunRecord]) -> str:
    """Which trials did not complete, why, and where each one's log is."""
    labels = dict(zip((r.directory for r in records), trial_labels(records), strict=True))
    problems = []
    for subdir, record in bad.items():
        reason = (record.error or "no reason recorded").strip().partition("\n")[0]
        label = subdir if journal.phases[0].name else labels[record.directory]
        problems.append(Problem(label, f"{record.status}: {reason}{log_of(record)}"))
    what = f"of {len(records)} trials did not complete"
    return str(UserError(what, problems, "the tables above hold all of them"))

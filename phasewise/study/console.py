"""What a study says on the terminal, and the tables that it leaves beside the trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from statistics import fmean, stdev

from phasewise.errors import say
from phasewise.records.record import RunRecord
from phasewise.study.commands import single_run
from phasewise.study.halved import EPOCHS, amount_text
from phasewise.study.halving_plan import halving_plan_text
from phasewise.study.journal import Candidate, Journal, Phase, SearchPlan
from phasewise.study.results import UNSET, as_setting
from phasewise.study.saved_config import SavedConfig
from phasewise.study.selection import used_different_samples
from phasewise.study.table import best_row, format_table, sweep_table, write_csv

TABLE = "sweep.csv"
RUN_LOG = "run.log"

log = logging.getLogger(__name__)


def print_trials(phase: Phase, records: Sequence[RunRecord], study: Path) -> None:
    """Print the table of a phase and write it as CSV, if a trial left a record.

    The star marks all seeds of what the phase decided for; before that, the best run.
    """
    if not any(record.fingerprint for record in records):
        return
    table = sweep_table(records)
    path = study / phase.name / TABLE
    write_csv(table, path)
    chosen = 0 if phase.kind == "test" else phase.winner
    marked: list[int] | None
    if chosen is None and used_different_samples(records):
        marked, meaning = [], "no star, for different validation samples judged; "
    elif chosen is None:
        marked, meaning = None, "" if best_row(table) is None else "* the best run so far; "
    else:
        rows = [max(len(one.trials), 1) for one in phase.candidates]  # one if it was refused
        of_rows = [row for row, count in enumerate(rows) for _ in range(count)]
        marked = [position for position, row in enumerate(of_rows) if row == chosen]
        meaning = f"* {_meaning(phase)}; "
    say(f"\n{format_table(table, marked=marked)}\n\n{meaning}unrounded in {path}")


def _meaning(phase: Phase) -> str:
    """What the star of a decided phase's table says."""
    runs = ", each of its seeds" if len(phase.seeds) > 1 else ""
    if phase.kind == "test":
        return f"the final configuration{runs}"
    if not phase.name:
        mean = " mean of" if len(phase.seeds) > 1 else ""
        return f"the best{mean} {phase.objective['metric']}{runs}"
    return f"{'adopted' if phase.verdict == 'adopted' else 'kept, the incumbent'}{runs}"


def print_decision(phase: Phase, values: Sequence[dict[int, float]], study: Path) -> None:
    """Who won and why; with several seeds the means before it."""
    names = [candidate_label(phase, one, study) for one in phase.candidates]
    if len(phase.seeds) > 1:
        came = map(_came_to, repeat(phase), phase.candidates, values)
        rows = zip(names, came, strict=True)
        say("\n".join(["", *(f"{name}: {text}" for name, text in rows)]))
    for name, candidate in zip(names, phase.candidates, strict=True):
        if candidate.refused:
            say(f"{name} could not run: {candidate.refused}")
    if phase.search is not None:
        say(search_text(phase, phase.search))
    if phase.out_of_hours is not None:
        count = len(phase.out_of_hours.left)
        say(f"{f'{count} trials were not run: ' if count else ''}{phase.out_of_hours}")
    if phase.halving is not None and (saved := phase.halving.saved_text()):
        say(saved)
    if not phase.name:
        return
    winner = "" if phase.winner is None else f"{names[phase.winner]} "
    say(f"\n{phase.name}: {winner}{(phase.verdict or '').replace('_', ' ')}: {phase.reason}")


def search_text(phase: Phase, search: SearchPlan) -> str:
    """What a search asked for, and why for no more."""
    count = len(phase.candidates) - 1
    again = f" ({search.repeated} times for one that was there)" if search.repeated else ""
    ended = f"; {search.ended}" if search.ended else ""
    return f"{search.sampler} asked for {count} of {search.trials} trials{again}{ended}"


def candidate_label(phase: Phase, candidate: Candidate, study: Path) -> str:
    """What a candidate changes; in a sweep, of all that was typed, what differs.

    Of one that changes nothing, the values of the swept keys by its run in the study's directory.
    """
    words = candidate.overrides
    if not phase.name:
        words = [word for word in words if word.partition("=")[0] in phase.declared] or words
    if words:
        return " ".join(words)
    keys = phase.declared if phase.search is None else [one.name for one in phase.search.space]
    saved = [SavedConfig(study / trial.directory) for trial in candidate.trials[:1]]
    known = {key: one.get(key, UNSET) for one in saved for key in keys}
    own = [f"{key}={as_setting(value)}" for key, value in known.items() if value is not UNSET]
    return f"the configuration before ({' '.join(own)})" if own else "the configuration before"


def log_of(record: RunRecord) -> str:
    """Where the log of a trial is, if it wrote one."""
    path = record.directory / RUN_LOG
    return f"; see {path}" if path.exists() and path.stat().st_size else ""


def plan_text(journal: Journal, done: int) -> str:
    """Phases, trials and seeds before anything runs.

    Args:
        journal: the journal with its planned phases.
        done: how many of the trials are finished.
    """
    phases = [phase for phase in journal.phases if phase.kind != "test"]
    count = sum(phase.planned_trials for phase in phases)
    goal = f"{journal.objective['metric']} ({journal.objective['mode']})"
    if not phases[0].name:
        return f"{count} trials in {journal.directory}{_finished(done)}"
    scale = "" if journal.budget == "full" else f", budget {journal.budget}"
    lines = [f"study {journal.name}{scale}: {goal}, in {journal.directory}"]
    width = max(len(phase.name) for phase in phases)
    for number, phase in enumerate(phases, 1):
        what = " ".join(f"{key}={','.join(v)}" for key, v in phase.declared.items())
        what = what or " ".join(phase.candidates[0].overrides)  # one, beside the incumbent
        if phase.kind == "rerun":
            words = " ".join(phase.candidates[-1].overrides)
            what = f"the best so far{f' with {words}' if words else ''}"
        if phase.search is not None:
            lines.append(f"  {number} {phase.name:<{width}}  {_searched(phase, phase.search)}")
            continue
        seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
        drawn = f" of {phase.sampled_from}" if phase.sampled_from else ""
        again = phase.kind == "rerun"
        own = sum(again or bool(candidate.overrides) for candidate in phase.candidates)
        start = " + incumbent" if own < len(phase.candidates) else ""
        lines.append(f"  {number} {phase.name:<{width}}  {own:>3}{drawn}{start}{seeds}  {what}")
        lines += [f"    {'':<{width}}  {text}" for text in halving_plan_text(phase)]
    lines.append(f"{count} trials{_finished(done)}; trials that phases share run once")
    return "\n".join(lines)


def _searched(phase: Phase, search: SearchPlan) -> str:
    """A line of the plan: how many trials are asked for, by whom and from where."""
    seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
    once = f", at most {search.parallel} at a time" if search.parallel > 1 else ", one at a time"
    space = " ".join([*search.fixed, *(f"{one.key}={one.typed}" for one in search.space)])
    return f"{search.trials:>3} + incumbent{seeds}  asked by {search.sampler}{once}: {space}"


def print_final(
    journal: Journal,
    records: Sequence[Sequence[RunRecord]],
    program: str,
    words: Sequence[str],
    changed: Sequence[str],
    place: Path,
) -> None:
    """The last words of a study: its configuration and what that scores on test data.

    Args:
        journal: the journal.
        records: of each candidate of the test, one per seed; none without a test.
        program: the entry script, as it was called.
        words: all overrides of the final configuration.
        changed: those that the phases have changed.
        place: of a run of the final configuration.
    """
    metric = "test/" + journal.objective["metric"].partition("/")[2]
    say("")
    names = ["final configuration", "starting configuration"]
    for name, found in zip(names, records, strict=False):
        scores = {record.seed or 0: _number((record.test or {}).get(metric)) for record in found}
        say(f"{name + ':':<24} {metric} {_mean(scores)}")
    for name, scores in sorted(records[0][0].baselines.items() if records and records[0] else []):
        if metric in scores:
            say(f"{name + ':':<24} {metric} {_number(scores[metric]):.4g}")
    say(f"\nchanged from the start: {' '.join(changed) or 'nothing'}")
    say(f"as a single run: {single_run(place, words, program)}")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _came_to(phase: Phase, candidate: Candidate, values: dict[int, float]) -> str:
    if candidate.epochs is None or phase.halving is None:
        return _mean(values)
    unit = phase.halving.unit
    return f"stopped {'after' if unit == EPOCHS else 'at'} {amount_text(unit, candidate.epochs)}"


def _finished(done: int) -> str:
    return f", {done} of them done" if done else ""


def _mean(values: dict[int, float]) -> str:
    found = [value for value in values.values() if math.isfinite(value)]
    if len(found) < 2:
        return f"{found[0]:.4g} (1 seed)" if found else "no result"
    return f"{fmean(found):.4g} +- {stdev(found):.2g} ({len(found)} seeds)"

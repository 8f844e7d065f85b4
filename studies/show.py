"""What a study says on the terminal, and the tables that it leaves beside the trials."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from common.errors import say
from common.runs.record import RunRecord
from studies.journal import Candidate, Journal, Phase
from studies.overrides import merge
from studies.table import best_row, format_table, sweep_table, write_csv

TABLE = "sweep.csv"

log = logging.getLogger(__name__)


def show_trials(phase: Phase, records: Sequence[RunRecord], study: Path) -> None:
    """Print the table of a phase and write it as CSV, if a trial left a record."""
    if not any(record.fingerprint for record in records):
        return
    table = sweep_table(records)
    path = study / phase.name / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(table, path)
    mark = "" if best_row(table) is None else f"* best {table.attrs['objective']}; "
    say(f"\n{format_table(table)}\n\n{mark}unrounded in {path}")


def say_decision(phase: Phase, values: Sequence[dict[int, float]]) -> None:
    """Who won and why; with several seeds the means before it."""
    if len(phase.seeds) > 1:
        rows = zip(phase.candidates, values, strict=True)
        say("\n".join(["", *(f"{label(phase, one)}: {_mean(found)}" for one, found in rows)]))
    for candidate in phase.candidates:
        if candidate.refused:
            say(f"{label(phase, candidate)} could not run: {candidate.refused}")
    if phase.epochs_saved:
        say(f"{phase.epochs_saved} epochs saved by halving")
    if not phase.name:
        return
    winner = "" if phase.winner is None else f"{label(phase, phase.candidates[phase.winner])} "
    say(f"\n{phase.name}: {winner}{(phase.verdict or '').replace('_', ' ')}: {phase.reason}")


def label(phase: Phase, candidate: Candidate) -> str:
    """What a candidate changes; in a sweep, of all that was typed, what differs."""
    words = candidate.overrides
    if not phase.name:
        words = [word for word in words if word.partition("=")[0] in phase.declared] or words
    return " ".join(words) or "the configuration before"


def plan_text(book: Journal, done: int) -> str:
    """Phases, trials and seeds before anything runs.

    Args:
        book: the journal with its planned phases.
        done: how many of the trials are finished.
    """
    phases = [phase for phase in book.phases if phase.kind != "test"]
    count = sum(len(c.trials) for phase in phases for c in phase.candidates)
    goal = f"{book.objective['metric']} ({book.objective['mode']})"
    if not phases[0].name:
        return f"{count} trials in {book.directory}{_finished(done)}"
    scale = "" if book.budget == "full" else f", budget {book.budget}"
    lines = [f"study {book.name}{scale}: {goal}, in {book.directory}"]
    width = max(len(phase.name) for phase in phases)
    for number, phase in enumerate(phases, 1):
        what = " ".join(f"{key}={','.join(v)}" for key, v in phase.declared.items())
        if phase.kind == "rerun":
            what = f"the best so far with {' '.join(phase.candidates[0].overrides)}"
        seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
        drawn = f" of {phase.sampled_from}" if phase.sampled_from else ""
        lines.append(
            f"  {number} {phase.name:<{width}}  {len(phase.candidates):>3}{drawn}{seeds}  {what}"
        )
    lines.append(f"{count} trials{_finished(done)}; trials that phases share run once")
    return "\n".join(lines)


def say_final(book: Journal, records: Sequence[Sequence[RunRecord]], program: str) -> None:
    """The last words of a study: its configuration and what that scores on test data.

    Args:
        book: the journal, whose last phase is the test.
        records: of each candidate of that phase, one per seed.
        program: the entry script.
    """
    phase = book.phases[-1]
    metric = "test/" + book.objective["metric"].partition("/")[2]
    say("")
    names = ["final configuration", "starting configuration"]
    for name, found in zip(names, records, strict=False):
        scores = {record.seed or 0: _number((record.test or {}).get(metric)) for record in found}
        say(f"{name + ':':<24} {metric} {_mean(scores)}")
    for name, scores in sorted(records[0][0].baselines.items() if records[0] else []):
        if metric in scores:
            say(f"{name + ':':<24} {metric} {_number(scores[metric]):.4g}")
    words = merge(phase.base, phase.candidates[0].overrides)
    changed = " ".join(phase.candidates[0].overrides) or "nothing"
    say(f"\nchanged from the start: {changed}")
    say(f"as a single run: python {program} {shlex.join([*words, 'hydra.mode=RUN'])}")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finished(done: int) -> str:
    return f", {done} of them done" if done else ""


def _mean(values: dict[int, float]) -> str:
    found = [value for value in values.values() if math.isfinite(value)]
    if len(found) < 2:
        return f"{found[0]:.4g} (1 seed)" if found else "no result"
    return f"{fmean(found):.4g} +- {stdev(found):.2g} ({len(found)} seeds)"

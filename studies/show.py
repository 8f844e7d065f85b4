"""What a study says on the terminal, and the tables that it leaves beside the trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from common.errors import say
from common.record import RunRecord
from studies.journal import Candidate, Journal, Phase
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
        say("\n" + "\n".join(_mean(*pair) for pair in zip(phase.candidates, values, strict=True)))
    for candidate in phase.candidates:
        if candidate.refused:
            say(f"{label(candidate)} could not run: {candidate.refused}")
    if phase.epochs_saved:
        say(f"{phase.epochs_saved} epochs saved by halving")
    if not phase.name:
        return
    winner = "" if phase.winner is None else f"{label(phase.candidates[phase.winner])} "
    say(f"\n{phase.name}: {winner}{(phase.verdict or '').replace('_', ' ')}: {phase.reason}")


def label(candidate: Candidate) -> str:
    """What a candidate changes."""
    return " ".join(candidate.overrides) or "the configuration before"


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
        seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
        drawn = f" of {phase.sampled_from}" if phase.sampled_from else ""
        lines.append(
            f"  {number} {phase.name:<{width}}  {len(phase.candidates):>3}{drawn}{seeds}  {what}"
        )
    lines.append(f"{count} trials{_finished(done)}; trials that phases share run once")
    return "\n".join(lines)


def _finished(done: int) -> str:
    return f", {done} of them done" if done else ""


def _mean(candidate: Candidate, values: dict[int, float]) -> str:
    found = [value for value in values.values() if math.isfinite(value)]
    if not found:
        return f"         -            {label(candidate)}"
    spread = f"{stdev(found):.3g}" if len(found) > 1 else "-"
    return f"  {fmean(found):.4g} +- {spread} ({len(found)} seeds)  {label(candidate)}"

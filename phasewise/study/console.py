"""What a study says on the terminal, and the tables that it leaves beside the trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from phasewise.errors import say
from phasewise.records.record import RunRecord
from phasewise.study.commands import single_run
from phasewise.study.halved import EPOCHS, amount_text
from phasewise.study.halving_plan import halving_plan_text
from phasewise.study.journal import Candidate, Journal, Phase, SearchPlan
from phasewise.study.objectives import WEIGHTED, measured, scalar, scalar_of, way_of
from phasewise.study.results import UNSET, as_setting, objective_value
from phasewise.study.saved_config import SavedConfig
from phasewise.study.selection import used_different_samples
from phasewise.study.table import best_row, format_table, sweep_table, write_csv
from phasewise.study.tree import tree_of_plan

if TYPE_CHECKING:
    import pandas as pd

TABLE = "sweep.csv"
RUN_LOG = "run.log"

log = logging.getLogger(__name__)


def print_trials(phase: Phase, records: Sequence[RunRecord], study: Path) -> None:
    """Print the table of a phase and write it as CSV, if a trial left a record.

    The star marks all seeds of what the phase decided for; before that, the best run.
    """
    if not any(record.fingerprint for record in records):
        return
    rows = [max(len(one.trials), 1) for one in phase.candidates]  # one if it was refused
    of_rows = [row for row, count in enumerate(rows) for _ in range(count)]
    table = sweep_table(records, [one["metric"] for one in phase.objectives])
    add_choice(table, phase, records, of_rows)
    path = study / phase.name / TABLE
    write_csv(table, path)
    chosen = 0 if phase.kind == "test" else phase.winner
    marked: list[int] | None
    if chosen is None and used_different_samples(records):
        marked, meaning = [], "no star, for different validation samples judged; "
    elif chosen is None:
        marked, meaning = None, "" if best_row(table) is None else "* the best run so far; "
    else:
        marked = [position for position, row in enumerate(of_rows) if row == chosen]
        meaning = f"* {_meaning(phase)}; "
    say(f"\n{format_table(table, marked=marked)}\n\n{meaning}unrounded in {path}")


def add_choice(
    table: pd.DataFrame, phase: Phase, records: Sequence[RunRecord], rows: Sequence[int]
) -> None:
    """Columns by which several objectives choose: the weighted mean, or who is on the front.

    Args:
        table: from `phasewise.study.table.sweep_table`.
        phase: decided or not.
        records: of the table's rows.
        rows: the candidate of each.
    """
    metric = phase.objective["metric"]
    if WEIGHTED in phase.choose:
        scores = [scalar(phase, it.best | {metric: it.objective.get("value")}) for it in records]
        table.insert(table.columns.get_loc(metric), WEIGHTED, scores)
        table.attrs["metrics"].insert(0, WEIGHTED)
        table.attrs["first"].insert(0, WEIGHTED)
    if phase.front:
        table["front"] = ["yes" if row in phase.front else "" for row in rows]


def _meaning(phase: Phase) -> str:
    """What the star of a decided phase's table says."""
    runs = ", each of its seeds" if len(phase.seeds) > 1 else ""
    if phase.kind == "test":
        return f"the final configuration{runs}"
    if not phase.name:
        mean = " mean of" if len(phase.seeds) > 1 else ""
        return f"the best{mean} {phase.objective['metric']}{runs}"
    return f"{'adopted' if phase.verdict == 'adopted' else 'kept, the incumbent'}{runs}"


def print_decision(phase: Phase, runs: Sequence[Mapping[int, RunRecord]], study: Path) -> None:
    """Who won and why; with several seeds or objectives the means before it."""
    names = [candidate_label(phase, one, study) for one in phase.candidates]
    if len(phase.seeds) > 1 or phase.choose:
        came = map(_came_to, repeat(phase), phase.candidates, runs)
        rows = zip(names, came, strict=True)
        say("\n".join(["", *(f"{name}: {text}" for name, text in rows)]))
    for name, candidate in zip(names, phase.candidates, strict=True):
        if candidate.refused:
            say(f"{name} could not run: {candidate.refused}")
        if candidate.infeasible:
            say(f"{name} is infeasible: {', '.join(candidate.infeasible)}")
        if candidate.fallen:
            say(f"{name} falls too far: {', '.join(candidate.fallen)}")
    if phase.front:
        say(f"on the Pareto front: {'; '.join(names[row] for row in phase.front)}")
    if phase.search is not None:
        say(search_text(phase, phase.search))
    if phase.out_of_hours is not None:
        count = len(phase.out_of_hours.left)
        say(f"{f'{count} trials were not run: ' if count else ''}{phase.out_of_hours}")
    if phase.halving is not None and (saved := phase.halving.saved_text()):
        say(saved)
    if not phase.name:
        if phase.choose and phase.winner is not None:
            say(f"\n{names[phase.winner]}: {phase.reason}")
        return
    for line in branch_lines(phase, names, runs):
        say(line)
    winner = "" if phase.winner is None else f"{names[phase.winner]} "
    say(f"\n{phase.name}: {winner}{(phase.verdict or '').replace('_', ' ')}: {phase.reason}")


def branch_lines(
    phase: Phase, names: Sequence[str], runs: Sequence[Mapping[int, RunRecord]]
) -> Iterator[str]:
    """The best of each branch of a phase, if it has any."""
    if phase.branches:
        yield f"\nthe best of each {phase.per}:"
    for branch in phase.branches:
        row = branch.winner
        found = "no result" if row is None else f"{_means(phase, runs[row])}  {names[row]}"
        yield f"  {branch.level}: {found}"


def search_text(phase: Phase, search: SearchPlan) -> str:
    """What a search asked for, and why for no more."""
    each = len(phase.rivals())
    count, wanted = len(phase.candidates) - each, each * search.trials
    again = f" ({search.repeated} times for one that was there)" if search.repeated else ""
    ended = f"; {search.ended}" if search.ended else ""
    return f"{search.sampler} asked for {count} of {wanted} trials{again}{ended}"


def _means(phase: Phase, runs: Mapping[int, RunRecord]) -> str:
    """Of the objective; of several all, each with its name."""
    if not phase.choose:
        return _mean({seed: objective_value(record) for seed, record in runs.items()})
    found = measured(phase, runs)
    if WEIGHTED in phase.choose:
        found[WEIGHTED] = {seed: scalar_of(phase, record) for seed, record in runs.items()}
    return ", ".join(f"{name} {_mean(values)}" for name, values in found.items())


def candidate_label(phase: Phase, candidate: Candidate, study: Path) -> str:
    """What a candidate changes; in a sweep, of all that was typed, what differs.

    Of one that changes nothing, the values of the swept keys by its run in the study's directory.
    """
    words = candidate.overrides
    if not phase.name:
        words = [word for word in words if word.partition("=")[0] in phase.declared] or words
    if level := level_word(phase, candidate):
        return " ".join([level, *words])
    if words:
        return " ".join(words)
    keys = phase.declared if phase.search is None else [one.name for one in phase.search.space]
    saved = [SavedConfig(study / trial.directory) for trial in candidate.trials[:1]]
    known = {key: one.get(key, UNSET) for one in saved for key in keys}
    own = [f"{key}={as_setting(value)}" for key, value in known.items() if value is not UNSET]
    return f"the configuration before ({' '.join(own)})" if own else "the configuration before"


def level_word(phase: Phase, candidate: Candidate) -> str | None:
    """``KEY=LEVEL`` of a candidate in a branch whose words do not say it."""
    if any(word.partition("=")[0].lstrip("+~") == phase.per for word in candidate.overrides):
        return None
    rows = [row for row, one in enumerate(phase.candidates) if one is candidate]
    levels = [it.level for it in phase.branches if any(row in it.candidates for row in rows)]
    return f"{phase.per}={levels[0]}" if levels else None


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
    goal = ", ".join(f"{one['metric']} ({one['mode']})" for one in _objectives(journal))
    common = [one for one in phases[0].require if all(one in phase.require for phase in phases)]
    rules = [f"  chosen by {way}" for way in dict.fromkeys(map(way_of, phases)) if way]
    rules += [f"  requires {', '.join(common)}"] if common else []
    if not phases[0].name:
        text = f"{count} trials in {journal.directory}{_finished(done)}"
        return "\n".join([text, *rules])
    scale = "" if journal.budget == "full" else f", budget {journal.budget}"
    lines = [f"study {journal.name}{scale}: {goal}, in {journal.directory}", *rules]
    lines += _phase_lines(phases, common)
    leaves = tree_of_plan(phases).leaves
    if len(leaves) > 1:
        lines.append(f"in the end the best of {' and '.join(leaves)} by {goal} is tested")
    lines.append(f"{count} trials{_finished(done)}; trials that phases share run once")
    return "\n".join(lines)


def _phase_lines(phases: Sequence[Phase], common: Sequence[str]) -> Iterator[str]:
    """A line per phase; where they are no chain, what builds on a phase is indented below it.

    Args:
        phases: of the plan.
        common: requirements of all of them, which were told.
    """
    tree = tree_of_plan(phases)
    numbers = {phase.name: number for number, phase in enumerate(phases, 1)}
    depths = dict.fromkeys(tree.names, 0) if tree.is_chain else tree.depths()
    names = {name: f"{'  ' * depth}{numbers[name]} {name}" for name, depth in depths.items()}
    width = max(map(len, names.values()))
    for name, shown in names.items():
        phase, parents = phases[numbers[name] - 1], tree.parents[name]
        text = _what(phase) if phase.search is None else _searched(phase, phase.search)
        text += f"  (after {' and '.join(parents)})" if len(parents) > 1 else ""
        if more := [one for one in phase.require if one not in common]:
            text += f"  (requires {', '.join(more)})"
        yield f"  {shown:<{width}}  {text}"
        yield from (f"  {'':<{width}}  {text}" for text in halving_plan_text(phase))


def _what(phase: Phase) -> str:
    """What a planned phase tries, and how often."""
    what = " ".join(f"{key}={','.join(v)}" for key, v in phase.declared.items())
    what = what or " ".join(phase.candidates[0].overrides)  # one, beside the incumbent
    seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
    drawn = f" of {phase.sampled_from}" if phase.sampled_from else ""
    if phase.kind == "rerun":
        words = " ".join(phase.candidates[-1].overrides)
        each = f" of each {phase.per}" if phase.per else ""
        what = f"the best so far{each}{f' with {words}' if words else ''}"
        return f"{len(phase.candidates):>3}{seeds}  {what}"
    if phase.branches:
        return f"{len(phase.candidates):>3}{drawn}{seeds}  {what}{_from_each(phase)}"
    own = sum(bool(candidate.overrides) for candidate in phase.candidates)
    start = " + incumbent" if own < len(phase.candidates) else ""
    return f"{own:>3}{drawn}{start}{seeds}  {what}"


def _from_each(phase: Phase) -> str:
    levels = ", ".join(branch.level for branch in phase.branches)
    return f", from the best of each {phase.per} ({levels})"


def _searched(phase: Phase, search: SearchPlan) -> str:
    """A line of the plan: how many trials are asked for, by whom and from where."""
    seeds = f" x {len(phase.seeds)} seeds" if len(phase.seeds) > 1 else ""
    once = f", at most {search.parallel} at a time" if search.parallel > 1 else ", one at a time"
    space = " ".join([*search.fixed, *(f"{one.key}={one.typed}" for one in search.space)])
    text = f"asked by {search.sampler}{once}: {space}"
    if not phase.branches:
        return f"{search.trials:>3} + incumbent{seeds}  {text}"
    count = len(phase.branches)
    each = f"{count * search.trials:>3} + {count} incumbents{seeds}  {text}"
    return f"{each}{_from_each(phase)}"


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
        records: of each candidate of the test, one per seed; without a test, of what was trained.
        program: the entry script, as it was called.
        words: all overrides of the final configuration.
        changed: those that the phases have changed.
        place: of a run of the final configuration.
    """
    goals = [one["metric"] for one in _objectives(journal)]
    metrics = [_told_of(name, records) for name in goals]
    say("")
    names = ["final configuration", "starting configuration"]
    for name, found in zip(names, records, strict=False):
        texts = []
        for metric in metrics:
            scores = {one.seed or 0: _number(_scored(one, metric)) for one in found}
            texts.append(f"{metric} {_mean(scores)}")
        say(f"{name + ':':<24} {', '.join(texts)}")
    for name, known in sorted(records[0][0].baselines.items() if records and records[0] else []):
        if texts := [f"{it} {_number(known[it]):.4g}" for it in metrics if it in known]:
            say(f"{name + ':':<24} {', '.join(texts)}")
    say(f"\nchanged from the start: {' '.join(changed) or 'nothing'}")
    say(f"as a single run: {single_run(place, words, program)}")


def _told_of(metric: str, records: Sequence[Sequence[RunRecord]]) -> str:
    """What test data say of an objective; the objective itself where no run has that."""
    tested = "test/" + (metric.partition("/")[2] or metric)
    found = [one for each in records for one in each]
    known = any(tested in (one.test or {}) for one in found)
    ended = any(_scored(one, metric) is not None for one in found)
    return metric if ended and not known else tested


def _scored(record: RunRecord, metric: str) -> float | None:
    known = {record.objective["metric"]: record.objective.get("value")} | record.best
    return {**known, **(record.test or {})}.get(metric)


def _objectives(journal: Journal) -> list[dict[str, str]]:
    """All that the study names; of its phases, some may have one of their own."""
    found = next((phase.objectives for phase in journal.phases if phase.objectives), [])
    return found or [journal.objective]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _came_to(phase: Phase, candidate: Candidate, runs: Mapping[int, RunRecord]) -> str:
    if candidate.epochs is None or phase.halving is None:
        return _means(phase, runs)
    unit = phase.halving.unit
    return f"stopped {'after' if unit == EPOCHS else 'at'} {amount_text(unit, candidate.epochs)}"


def _finished(done: int) -> str:
    return f", {done} of them done" if done else ""


def _mean(values: dict[int, float]) -> str:
    found = [value for value in values.values() if math.isfinite(value)]
    if len(found) < 2:
        return f"{found[0]:.4g} (1 seed)" if found else "no result"
    return f"{fmean(found):.4g} +- {stdev(found):.2g} ({len(found)} seeds)"

"""Whether the choices that a study made are backed by its results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from phasewise.analysis.audit.case import Case, Finding, compares, of_phase, sign_of
from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.intervals import compare_with
from phasewise.analysis.statistics.power import ALPHA
from phasewise.study.objectives import PARETO, ranking_values
from phasewise.study.results import UNSET, CandidateResult, PhaseResult, as_setting, typed
from phasewise.study.tree import tree_of_plan

LEAST_VALUES = 3
"""Of two values one is always on the edge."""

MORE_SEEDS = "study.seeds=[0,1,2] or more repeats each configuration"


def one_seed(case: Case) -> Iterator[Finding]:
    """Configurations compared by one run each: nothing tells a gain from the luck of a seed."""
    lines = []
    for phase in case.compared:
        results = [len(candidate.values) for candidate in phase.candidates if candidate.values]
        if len(results) > 1 and max(results) == 1:
            lines.append(f"{phase.plan.name or 'the sweep'}: {len(results)} configurations")
    if lines:
        yield Finding(
            "one_seed",
            "warning",
            "configurations were compared by one seed each",
            tuple(lines),
            f"{MORE_SEEDS}; at least rerun the best few",
        )


def within_noise(case: Case) -> Iterator[Finding]:
    """A winner whose gain is within the noise of seeds."""
    for phase, index in case.winners():
        candidate = phase.candidates[index]
        rival = rival_of(phase, index)
        if rival is None or PARETO in phase.plan.choose or phase.candidates[rival].plan.infeasible:
            continue  # a knee, or what satisfies the requirements, is no gain in one number
        found = compare_with(phase, index)
        if found.table is None:
            continue
        row = found.table[found.table["candidate"] == rival]
        if row.empty or row["p_holm"].iloc[0] <= ALPHA:
            continue
        before = rival == phase.plan.incumbent
        other = phase.candidates[rival]
        gain = sign_of(phase) * (_mean(phase, candidate) - _mean(phase, other))
        against = "the incumbent" if before else "the second best"
        yield Finding(
            "within_noise",
            "warning" if before else "note",
            f"{of_phase(phase)}{phase.label(candidate)} is {gain:.3g} better than {against}, "
            f"{phase.label(other)}, which is within the noise of seeds "
            f"(p = {row['p_holm'].iloc[0]:.2g})",
            tuple(_values(phase, one) for one in (candidate, other)),
            f"{MORE_SEEDS}; study.adopt=significant keeps the incumbent in such a case",
            phase.plan.name,
        )


def rival_of(phase: PhaseResult, winner: int) -> int | None:
    """The incumbent if it lost; where there is none, the second best of several seeds."""
    if phase.plan.incumbent is not None:
        return phase.plan.incumbent if phase.plan.incumbent != winner else None
    others = [
        (sign_of(phase) * _mean(phase, one), index)
        for index, one in enumerate(phase.candidates)
        if index != winner and len(one.values) > 1 and not one.plan.infeasible
    ]
    return max(others)[1] if others else None


def _mean(phase: PhaseResult, candidate: CandidateResult) -> float:
    """Over seeds, of what ranks candidates; NaN without a result."""
    values = ranking_values(phase.plan, candidate).values()
    return fmean(values) if values else math.nan


def _values(phase: PhaseResult, candidate: CandidateResult) -> str:
    found = ranking_values(phase.plan, candidate)
    values = ", ".join(f"seed {seed}: {value:.4g}" for seed, value in found.items())
    return f"{phase.label(candidate)}: mean {_mean(phase, candidate):.4g} ({values})"


def on_the_edge(case: Case) -> Iterator[Finding]:
    """A winner at the smallest or largest value tried of a number: the optimum may lie beyond."""
    for phase, index in case.winners():
        if phase.plan.kind == "rerun":
            continue
        candidate = phase.candidates[index]
        for key in phase.keys:
            declared = {typed(value) for value in phase.plan.declared.get(key, [])}
            ran = {phase.setting(one, key) for one in phase.candidates if one.has_outcome}
            finished = sorted(float(value) for value in ran if is_number(value))
            # as typed, but what a search draws has many digits
            form = "" if phase.plan.search is None else "g"
            shown = sorted(value for value in ran if is_number(value))
            known = {value for value in declared | ran if is_number(value)}
            chosen = phase.setting(candidate, key)
            if len(known) < LEAST_VALUES or len(finished) < 2 or not is_number(chosen):
                continue
            side, where = _end(phase, key, float(chosen), finished)
            if not side or chosen == 0:  # nothing lies below none at all
                continue
            if _tried_beyond(case, phase, key, float(chosen), side):
                continue
            yield Finding(
                "on_the_edge",
                "warning",
                f"{of_phase(phase)}the best {key}, {chosen}, {where}: a better one may lie beyond",
                (f"{key}: {', '.join(f'{value:{form}}' for value in shown)}",),
                f"add {'smaller' if side == 'smallest' else 'larger'} values of {key}",
                phase.plan.name,
            )


def _tried_beyond(case: Case, own: PhaseResult, key: str, chosen: float, side: str) -> bool:
    """Whether another phase has had a result beyond an end: then it is known what lies there."""
    found = (
        phase.setting(one, key)
        for phase in case.compared
        if phase is not own and key in phase.keys
        for one in phase.candidates
        if one.has_outcome
    )
    values = [float(value) for value in found if is_number(value)]
    return any(value < chosen if side == "smallest" else value > chosen for value in values)


def _end(phase: PhaseResult, key: str, chosen: float, finished: Sequence[float]) -> tuple[str, str]:
    """Which end of what was tried a number is at, if it is, and how that is said.

    A search hardly asks for the end itself; what comes near it counts.
    """
    space = phase.plan.search.space if phase.plan.search is not None else []
    for one in space:
        if one.name == key and one.kind != "choice":
            side = one.end_near(chosen)
            ends = f"{one.low:g} to {one.high:g}"
            return side, f"is among the {side} of those that were searched, {ends}"
    side = {finished[0]: "smallest", finished[-1]: "largest"}.get(chosen, "")
    return side, f"is the {side} that finished"


def not_from_the_winner(case: Case) -> Iterator[Finding]:
    """A phase, or the final configuration, without what those have chosen that it builds on."""
    tree = tree_of_plan(case.plan.phases)
    last = case.plan.last or (tree.names[-1] if tree.names else "")
    choices: dict[str, dict[str, tuple[Any, str]]] = {}
    for phase in case.study.phases:
        name = phase.plan.name
        known = name if name in tree.parents else last
        before = tree.upstream(known) if tree.names else []
        before += [known] if name not in tree.parents else []
        chosen = {key: it for name in before for key, it in choices.get(name, {}).items()}
        if phase.plan.kind in ("grid", "combinations", "search") and any(case.of(phase)):
            lines = [*_departures(phase, chosen)]
            if lines:
                yield Finding(
                    "not_from_the_winner",
                    "error",
                    f"{of_phase(phase)}it did not start from the winner of earlier phases: what it "
                    "found may not hold for it",
                    tuple(lines),
                    "run it again from the winner, as a study with phases does by itself",
                    phase.plan.name,
                )
        index = case.winner(phase) if compares(phase) else None
        if index is not None:
            winner = phase.candidates[index]
            own = {k: (phase.setting(winner, k), phase.plan.name) for k in phase.keys}
            choices[phase.plan.name] = own
        if phase.plan.kind == "test" and any(case.of(phase)):
            yield from _final(case, phase, chosen)


def _departures(phase: PhaseResult, chosen: dict[str, tuple[Any, str]]) -> Iterator[str]:
    for key, (value, origin) in chosen.items():
        if key in phase.keys or value == UNSET:
            continue
        in_force = dict.fromkeys(phase.setting(candidate, key) for candidate in phase.candidates)
        others = [found for found in in_force if found != value]
        if others:
            shown = " or ".join("not set" if found == UNSET else str(found) for found in others)
            yield f"{key} is {shown}, while phase {origin} chose {value}"


def _final(case: Case, phase: PhaseResult, chosen: dict[str, tuple[Any, str]]) -> Iterator[Finding]:
    """The tested configuration against the values that phases chose."""
    tried: dict[str, set[Any]] = {}
    for before in case.compared:
        index = case.winner(before)
        if index is not None:
            for key in before.keys:
                value = before.setting(before.candidates[index], key)
                tried.setdefault(key, set()).add(value)
    settings = phase.base | phase.candidates[0].settings
    lines = [
        f"{key} is {as_setting(settings[key])}, while phase {chosen[key][1]} chose {chosen[key][0]}"
        for key in chosen
        if key in settings and as_setting(settings[key]) not in tried[key]
    ]
    if lines:
        yield Finding(
            "not_from_the_winner",
            "error",
            "the final configuration has values that no phase chose",
            tuple(lines),
            "test the configuration that the phases chose",
            phase.plan.name,
        )


def nothing_compared(case: Case) -> Iterator[Finding]:
    """Settings that no comparison backs: there is a single configuration."""
    if max((len(phase.candidates) for phase in case.compared), default=0) < 2:
        names = tuple(one.name for one in case.ran)
        yield Finding(
            "nothing_compared",
            "warning",
            "there is a single configuration: its settings cannot be said to be tuned",
            names,
            "compare it with others: -m KEY=VALUE,VALUE, or a study with phases",
        )


def selected_on_test(case: Case) -> Iterator[Finding]:
    """Configurations or epochs chosen by test data: the test metrics are no longer independent."""
    lines = []
    for phase in case.compared:
        metric = phase.plan.objective["metric"]
        if metric.startswith("test/"):
            lines.append(f"{phase.plan.name or 'the sweep'}: the objective is {metric}")
    for one in case.ran:
        hashes = one.record.data.get("hashes") or {}
        if "test" in hashes and hashes["test"] == hashes.get("val"):
            lines.append(f"{one.name}: its validation data are its test data")
    if lines:
        yield Finding(
            "selected_on_test",
            "error",
            "the selection was made on test data; the figures are too good",
            tuple(lines),
            "select on validation data of their own, by an objective of val/..., and look at test "
            "data once, at the end",
        )


def test_seen_early(case: Case) -> Iterator[Finding]:
    """More than the final and the starting configuration were evaluated on test data."""
    excused = {
        trial.directory
        for phase in case.study.phases
        if phase.plan.kind == "test"
        for candidate in phase.candidates
        for trial in candidate.trials
    }
    allowed = 0 if excused else 2  # without a plan: the final and the starting one
    seen: dict[tuple[str, ...], str] = {}
    for one in case.ran:
        if one.record.test and one.trial.directory not in excused:
            words = (word for word in one.record.overrides if not word.startswith("seed="))
            seen.setdefault(tuple(sorted(words)), one.name)
    if len(seen) > allowed:
        yield Finding(
            "test_seen_early",
            "note",
            f"{len(seen)} configurations were evaluated on test data, which tempts to select by it",
            tuple(seen.values()),
            "test=auto or test=false for the trials; a study tests the final configuration itself",
        )


CHECKS = (
    one_seed,
    within_noise,
    on_the_edge,
    not_from_the_winner,
    nothing_compared,
    selected_on_test,
    test_seen_early,
)

"""``study.objectives``, ``study.choose`` and ``require`` as somebody writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from phasewise.config.fields import Node, Text, message, wrong
from phasewise.config.help import not_one_of, settings_error
from phasewise.errors import Problem
from phasewise.study.constraints import parse_requirement, unknown_name
from phasewise.study.journal import Phase
from phasewise.study.measures import is_lower_better
from phasewise.study.objectives import GUARDED, PARETO, WEIGHTED
from phasewise.study.saved_config import look_up
from phasewise.study.written import Written, checked_keys

WAYS = (WEIGHTED, GUARDED, PARETO)
EXAMPLE = "{weighted: {val/mIoU: 1, val/mAP: 2}}, {guarded: {tolerance: 0.01}} or pareto"

Weight = Annotated[float, Field(gt=0), message("a weight must be a number > 0")]
Tolerance = Annotated[float, Field(ge=0)]
Requirements = Annotated[
    list[Text], message("must be a list of texts, e.g. ['cost.parameters <= 5e6']")
]


class Objective(Written):
    """A metric; a text is its name."""

    EXAMPLE: ClassVar[str] = "{metric: val/loss, mode: min}"
    metric: Text
    mode: Literal["max", "min"] | None = None

    @model_validator(mode="before")
    @classmethod
    def is_a_mapping(cls, value: Any) -> Any:
        """``val/mAP``, or with its mode."""
        if isinstance(value, str):
            return {"metric": value}
        if not isinstance(value, dict):
            raise wrong(f"must be a metric, or a mapping, e.g. {cls.EXAMPLE}")
        return checked_keys(cls, value)


class Guard(Written):
    """How far the other objectives may fall below the incumbent's."""

    EXAMPLE: ClassVar[str] = "{tolerance: 0.01}"
    tolerance: Annotated[
        Tolerance | dict[Text, Tolerance],
        message("must be a number >= 0, or such numbers by metric"),
    ]


class Choose(Node):
    """How several objectives choose: one of `WAYS`; ``pareto`` is a text."""

    weighted: dict[Text, Weight] | None = None
    guarded: Guard | None = None
    pareto: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        """``pareto``"""
        if value == PARETO:
            return {PARETO: True}
        if not isinstance(value, dict) or PARETO in value:
            raise wrong(f"must be {EXAMPLE}")
        named = {key: one for key, one in checked_keys(cls, value).items() if one is not None}
        if len(named) != 1:
            given = f", not {' and '.join(named)}; null takes one back" if named else ""
            raise wrong(f"one of {', '.join(WAYS)} must be given{given}")
        return named


class StatedGoals(Node):
    """What the section ``study`` says of them."""

    objectives: list[Objective] = Field(default_factory=list)
    choose: Choose | None = None
    require: Requirements = Field(default_factory=list)


def goal_problems(
    stated: StatedGoals,
    requirements: Mapping[str, Sequence[str]],
    *,
    is_sweep: bool,
    significant: bool,
) -> Iterator[Problem]:
    """What does not go together, whatever metrics there are, and what cannot be parsed.

    Args:
        stated: the section.
        requirements: of the study and of each phase, by the key where they stand.
        is_sweep: whether it has no phases of its own.
        significant: whether it adopts significant gains only.
    """
    for key, texts in requirements.items():
        yield from _unparsed(key, texts)
    names, choose = [one.metric for one in stated.objectives], stated.choose
    if choose is None:
        if names:
            yield Problem("study.choose", f"must say how the objectives choose: {EXAMPLE}")
        return
    if len(names) < 2:
        yield Problem("study.choose", "needs study.objectives of at least two metrics")
        return
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        yield Problem("study.objectives", f"{twice[0]} stands there twice")
    if choose.weighted is not None:
        yield from _each_named("study.choose.weighted", choose.weighted, names)
    if choose.guarded is not None:
        if isinstance(choose.guarded.tolerance, dict):
            yield from _each_named(
                "study.choose.guarded.tolerance", choose.guarded.tolerance, names[1:]
            )
        if is_sweep:
            reason = "guards what the incumbent has, and a sweep (-m) has none; study=NAME does"
            yield Problem("study.choose.guarded", reason)
    if choose.pareto and significant:
        reason = (
            "goes with study.choose=guarded or weighted, whose gain is one number, not with pareto"
        )
        yield Problem("study.adopt=significant", reason)


def _each_named(key: str, given: Collection[str], names: Sequence[str]) -> Iterator[Problem]:
    for name in given:
        if name not in names:
            yield Problem(f"{key}.{name}", not_one_of(name, names))
    if left := [name for name in names if name not in given]:
        yield Problem(key, f"must name {', '.join(left)} too")


def _unparsed(key: str, require: Sequence[str]) -> Iterator[Problem]:
    for text in require:
        try:
            parse_requirement(text)
        except ValueError as error:
            yield Problem(f"{key}: {text}", str(error))


@dataclass
class Goals:
    """What the phases of a study go by, beside their first objective.

    Attributes:
        objectives: ``metric`` and ``mode`` of each; none where there is one only.
        choose: as `phasewise.study.journal.Phase` has it.
        require: of all phases.
    """

    objectives: list[dict[str, str]] = field(default_factory=list)
    choose: dict[str, dict[str, float]] = field(default_factory=dict)
    require: list[str] = field(default_factory=list)

    def give(self, phase: Phase, metric: str | None, require: Sequence[str]) -> None:
        """Write them into a phase.

        Args:
            phase: as planned.
            metric: its own, by which alone it is judged then.
            require: its own, beside those of the study.
        """
        if metric is None:
            phase.objectives, phase.choose = self.objectives, self.choose
        phase.require = list(dict.fromkeys([*self.require, *require]))


def resolve_goals(
    stated: StatedGoals,
    requirements: Mapping[str, Sequence[str]],
    first: Mapping[str, str],
    metrics: Mapping[str, str] | None,
    fractions: Collection[str] = (),
) -> Goals:
    """The goals of a study's phases, with the mode of each metric.

    Args:
        stated, requirements: what goes together, see `goal_problems`.
        first: ``metric`` and ``mode`` of the objective by which each run has its best epoch.
        metrics: of the task, with their modes; ``None`` where nobody knows them before a run.
        fractions: those of them that lie within 0 and 1.

    Raises:
        UserError: all metrics that there are not, or whose mode is another one or unknown.
    """
    problems: list[Problem] = []
    found = []
    for number, one in enumerate(stated.objectives):
        mode = first["mode"] if number == 0 else (metrics or {}).get(one.metric, one.mode)
        found.append({"metric": one.metric, "mode": str(mode)})
        reason = _name_problem(one.metric, None if number else first["metric"], metrics)
        if not reason and mode is None:
            reason = f"its mode must be given, e.g. {{metric: {one.metric}, mode: max}}"
        elif not reason and one.mode not in (None, mode):
            reason = f"it is better when {'higher' if mode == 'max' else 'lower'}; must be {mode}"
        if reason:
            problems.append(Problem(f"study.objectives.{number}={one.metric}", reason))
    if metrics is not None:
        for key, texts in requirements.items():
            problems += _unknown_names(key, texts, {**metrics, "train/loss": "min"}, fractions)
    if problems:
        raise settings_error(problems)
    return Goals(found, _way(stated.choose, [it["metric"] for it in found[1:]]), stated.require)


def _name_problem(metric: str, first: str | None, metrics: Mapping[str, str] | None) -> str:
    """Of an objective; ``first`` is what the first one must be."""
    if first is not None:
        reason = f"the first one must be objective.metric, {first}, whose best epoch counts"
        return "" if metric == first else reason
    return "" if metrics is None or metric in metrics else not_one_of(metric, metrics)


def _unknown_names(
    key: str, require: Sequence[str], metrics: Mapping[str, str], fractions: Collection[str]
) -> Iterator[Problem]:
    for one in map(parse_requirement, require):
        reason = unknown_name(one.name, metrics)
        if one.name in fractions and not 0 <= one.bound <= 1:
            reason = f"{one.name} is a fraction, within 0 and 1"
        if reason:
            yield Problem(f"{key}: {one.text}", reason)


def _way(choose: Choose | None, others: Sequence[str]) -> dict[str, dict[str, float]]:
    """As a phase has it: a tolerance for each objective after the first."""
    if choose is None:
        return {}
    if choose.weighted is not None:
        return {WEIGHTED: choose.weighted}
    if choose.guarded is not None:
        given = choose.guarded.tolerance
        return {GUARDED: given if isinstance(given, dict) else dict.fromkeys(others, given)}
    return {PARETO: {}}


def saved_goals(config: Mapping[str, Any], first: Mapping[str, str]) -> Goals:
    """The goals of runs by the config that was saved beside them, for a study without a journal.

    The modes of other objectives, where the config does not name them, follow from their names:
    only the task knows them. None where the first objective is another one, or what is there cannot
    be used.

    Args:
        config: of a run, or of the study as a whole.
        first: the objective of the runs.
    """
    found = look_up(config, "study", {})
    section = found if isinstance(found, Mapping) else {}
    try:
        objectives = [Objective.model_validate(one) for one in section.get("objectives") or []]
        given = section.get("choose")
        choose = None if given is None else Choose.model_validate(given)
        require = [str(text) for text in section.get("require") or []]
        _ = [*map(parse_requirement, require)]
    except (ValueError, TypeError):
        return Goals()
    names = [one.metric for one in objectives]
    way = _way(choose, names[1:])
    if len(names) < 2 or names[0] != first["metric"] or not way:
        return Goals(require=require)
    if (own := next(iter(way.values()))) and own.keys() != {*names} and own.keys() != {*names[1:]}:
        return Goals(require=require)
    modes = [one.mode or ("min" if is_lower_better(one.metric) else "max") for one in objectives]
    goals = [{"metric": name, "mode": mode} for name, mode in zip(names, modes, strict=True)]
    return Goals([dict(first), *goals[1:]], way, require)

"""What may stand under ``study:`` in a config; see ``docs/studies.md``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from phasewise.config.fields import (
    Count,
    Flag,
    Fraction,
    Node,
    Seed,
    Text,
    Whole,
    message,
    wrong,
)
from phasewise.config.help import not_one_of, problems_of, settings_error
from phasewise.config.open_keys import open_words
from phasewise.config.override_syntax import parse_words, suggest_correction, syntax_problem
from phasewise.errors import Problem
from phasewise.study.application import Application
from phasewise.study.follow_settings import FollowUp
from phasewise.study.goals import Requirements, StatedGoals, goal_problems
from phasewise.study.halving_plan import Halving
from phasewise.study.hypotheses import Hypothesis, unanswerable
from phasewise.study.log_names import LOGS, name_problem
from phasewise.study.search_settings import FULL_RESULTS, Search
from phasewise.study.tree import tree_of_specs, wrong_sources
from phasewise.study.written import Written, as_typed, checked_keys
from phasewise.text import format_value

FULL = "full"
LEAST_SEEDS = 3
"""For ``adopt=significant``: a paired test of two differences has hardly any power."""

PAIRED_TEST = "paired t-test over seeds, one-sided, Bonferroni-corrected for the challengers"

RESERVED = ("test", "superseded", "tables", "figures", LOGS)
"""Folders of a study that are no phase."""


def parse_override_list(value: Any) -> list[str]:
    """Overrides as one types them in a shell, ``a=1 'b=[x, y]'``, or as a list of them."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError:
            raise wrong("a quote has no end, or a backslash nothing behind it") from None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    if isinstance(value, dict) and value:
        raise wrong(f"must be a text, as after -m: {as_typed(value)}")
    if isinstance(value, list):
        raise wrong("each item must be a whole override, in quotes if it has a comma")
    raise wrong("must be overrides as after -m, e.g. model.activation=relu,gelu")


def distinct(values: list[Any]) -> list[Any]:
    """At least one, none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError
    return values


METRICS = message("must be metrics with finite numbers, e.g. {mAP: 0.5}")
Measured = Annotated[float, Field(allow_inf_nan=False)]
OverrideList = Annotated[list[str], BeforeValidator(parse_override_list)]
Seeds = Annotated[
    list[Seed],
    AfterValidator(distinct),
    message("must be a list of different seeds, e.g. [0,1,2]"),
]


Hours = Annotated[float, Field(gt=0), message("must be a number of hours > 0")]


class Rerun(Written):
    """The best configurations so far, once more with other settings."""

    EXAMPLE = "{top: 2, overrides: trainer.max_epochs=20}"
    top: Count
    overrides: OverrideList
    per: Text | None = None
    compare: Flag = False


class PhaseConfig(Node):
    """One comparison; a text is its ``overrides``."""

    overrides: OverrideList = Field(default_factory=list)
    combinations: Annotated[list[OverrideList] | None, message("must be a list of overrides")] = (
        None
    )
    sample: Count | None = None
    sample_seed: Whole = 0
    seeds: Seeds | None = None
    metric: Text | None = None
    halving: Halving | None = None
    rerun: Rerun | None = None
    search: Search | None = None
    max_hours: Hours | None = None
    require: Requirements = Field(default_factory=list)
    source: Annotated[Text | None, Field(alias="from")] = None
    per: Text | None = None
    reason: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        """``activation: model.activation=relu,gelu``"""
        if not isinstance(value, dict):
            return {"overrides": value}
        return checked_keys(cls, value)

    @model_validator(mode="after")
    def fits_together(self) -> PhaseConfig:
        """A rerun chooses its configurations itself."""
        own = bool(self.overrides) or self.combinations is not None
        if self.rerun is not None and (own or self.sample or self.halving or self.search):
            reason = "goes without overrides, combinations, sample, halving and search"
            raise wrong(reason, key="rerun")
        if self.search is not None and (self.combinations is not None or self.sample):
            raise wrong("goes with overrides, without combinations and sample", key="search")
        if self.search is not None and self.halving is not None:
            if self.search.parallel < 2:
                raise wrong(
                    "must be 2 or more, for halving drops trials of a batch", key="search.parallel"
                )
            if self.search.sampler in FULL_RESULTS:
                them = "learns nothing from trials that halving stops; tpe does"
                raise wrong(them, key="search.sampler")
        if self.rerun is None and not own:
            raise wrong("overrides, combinations or rerun must be given", key="overrides")
        if self.per is not None and self.rerun is not None:
            raise wrong(f"of a rerun stands within it: rerun: {{per: {self.per}}}", key="per")
        return self


def phase_name(name: str) -> str:
    """A folder's."""
    if name in RESERVED:
        raise wrong(f"choose another name: {name} is a folder of the study itself")
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise wrong("the name of a phase has letters and digits, then also _ and -, nothing else")
    return name


class StudyConfig(StatedGoals):
    """The section ``study``."""

    name: Annotated[
        str | None, Field(pattern=r"^[\w-]+$"), message("must be letters, digits, _, -")
    ] = None
    seeds: Seeds | None = None
    phases: dict[Annotated[str, AfterValidator(phase_name)], PhaseConfig]
    adopt: Literal["best", "significant"] = "best"
    alpha: Fraction = 0.05
    refit: Flag = False
    retry_failed: Flag = False
    set_aside: Flag = False
    isolate: Flag = False
    memory_grows_with: list[Text] = Field(default_factory=list)
    dry_run: Flag = False
    fetch: Flag = False
    report: Flag = True
    log_names: Text | None = None
    checkpoints: Literal["winners", "best", "all", "none"] | None = None
    budgets: dict[str, OverrideList] = Field(default_factory=dict)
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    published: dict[
        str, dict[str, Annotated[dict[str, Measured], Field(min_length=1), METRICS]]
    ] = Field(default_factory=dict)
    published_conditions: Text | None = None
    objective: Text | None = None
    mode: Literal["max", "min"] | None = None
    seed_key: Text | None = None
    budget: Text | None = None
    ignore: list[Text] = Field(default_factory=list)
    max_hours: Hours | None = None
    follow_up: FollowUp | None = None

    def problems(self) -> list[Problem]:
        """Values that are fine alone but not together."""
        found = []
        for name, phase in self.phases.items():
            seeds = phase.seeds or self.seeds or []
            if self.adopt == "significant" and len(seeds) < LEAST_SEEDS and phase.rerun is None:
                reason = f"needs study.seeds of at least {LEAST_SEEDS} in phase {name}"
                found.append(Problem("study.adopt=significant", f"{reason} ({PAIRED_TEST})"))
        several = bool(self.phases)
        if self.log_names and (bad := name_problem(self.log_names, several_phases=several)):
            found.append(Problem(f"study.log_names={self.log_names}", bad))
        if self.follow_up is not None and not several:
            reason = "is for study=NAME, or phases: what it proposes is a phase after others"
            found.append(Problem("study.follow_up", reason))
        first = next(iter(self.phases.values()), None)
        if first is not None and first.rerun is not None:
            key = f"study.phases.{next(iter(self.phases))}.rerun"
            found.append(Problem(key, "there is nothing before the first phase"))
        lines = {  # without words for the study itself, whose values may be any text
            f"study.budgets.{name}": [word for word in line if not word.startswith("study.")]
            for name, line in self.budgets.items()
        }
        for name, phase in self.phases.items():
            if phase.rerun is not None:
                lines[f"study.phases.{name}.rerun.overrides"] = phase.rerun.overrides
        for key, line in lines.items():
            found += [Problem(key, reason) for reason in no_single_values(line)]
        words: dict[str, list[list[str]]] = {}
        for name, phase in self.phases.items():
            before = [line for lines in words.values() for line in lines]
            again = [phase.rerun.overrides, *before] if phase.rerun else []
            again += before if phase.per else []
            words[name] = [phase.overrides, *(phase.combinations or []), *again]
        found += wrong_sources(self.phases)
        if not found:
            found += self._without_levels()
        significant = self.adopt == "significant"
        found += goal_problems(
            self, self.requirements(), is_sweep=not self.phases, significant=significant
        )
        return [*found, *unanswerable(self.hypotheses, words)]

    def requirements(self) -> dict[str, list[str]]:
        """Of the study and of each phase, by the key where they stand."""
        own = {f"study.phases.{name}.require": it.require for name, it in self.phases.items()}
        return {"study.require": self.require, **own}

    def _without_levels(self) -> Iterator[Problem]:
        """Reruns of the best per value of a key that no phase that they build on varies."""
        tree = tree_of_specs(self.phases)
        varied: dict[str, dict[str, None]] = {}
        for name, phase in self.phases.items():
            per = None if phase.rerun is None else phase.rerun.per
            known = {key: None for one in tree.upstream(name) for key in varied[one]}
            if per is not None and known and per not in known:
                key = f"study.phases.{name}.rerun.per={per}"
                yield Problem(key, not_one_of(per, known))
            lines = [phase.overrides, *(phase.combinations or [])]
            varied[name] = {
                word.partition("=")[0].lstrip("+~"): None for it in lines for word in it
            }


def rewritten_phases(config: DictConfig, study: StudyConfig, budget: str) -> set[str]:
    """The phases that a command line or the budget has changed."""
    words = [str(word) for word in config.hydra.overrides.task]
    words += study.budgets.get(budget, [])
    start = "study.phases."
    return {
        word[len(start) :].partition("=")[0].partition(".")[0]
        for word in words
        if word.startswith(start)
    }


class _Root(Node):
    study: StudyConfig


def parse_study(config: DictConfig, application: Application) -> tuple[StudyConfig, list[str]]:
    """The section ``study`` of a composed config, and the overrides of its ``budget``.

    A budget may change the study itself: its words for ``study.*`` are applied, the others
    returned. What was typed for the same key goes first.

    Raises:
        UserError: everything that is wrong with it.
    """
    data = application.section
    if "study" in data:
        reason = "the study's file must begin with the line `# @package _global_`"
        raise settings_error([Problem("study.study", reason)])
    data["phases"] = named_phases(data.get("phases", {}))
    study, name = _validated(data), application.budget
    chosen = OmegaConf.select(config, "hydra.runtime.choices.study")
    if chosen and not study.phases:
        reason = f"study={chosen} has none; each has a name, e.g. {{rate: optimizer.lr=1e-3,1e-2}}"
        raise settings_error([Problem("study.phases", reason)])
    if name != FULL and name not in study.budgets:
        raise settings_error([Problem(f"budget={name}", not_one_of(name, [FULL, *study.budgets]))])
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(task, list)
    typed = [str(word).lstrip("+").partition("=")[0] for word in task]
    others: list[str] = []
    if name != FULL:
        section = OmegaConf.create({"study": data})
        for word in study.budgets[name]:
            key, _, value = word.partition("=")
            if not key.startswith("study."):
                others.append(word)
            elif key not in typed:
                OmegaConf.update(section, key, _plain(value), merge=False)
        scaled = OmegaConf.to_container(section.study, resolve=False)
        assert isinstance(scaled, dict)
        study = _validated(scaled)
    if problems := [*_without_meaning(study, application)]:
        raise settings_error(problems)
    return _opened(study, others, config) if application.writes_records else (study, others)


OF_OWN_RUNS = ("refit", "isolate", "checkpoints", "fetch", "log_names")
"""Keys that change what this project's runs do, of which another application knows nothing."""

OF_OTHERS = {
    "objective": "objective.metric",
    "mode": "objective.mode",
    "seed_key": "seed",
    "budget": "budget",
    "ignore": None,
}
"""Keys for other applications, and what stands for them in this project's."""


def _without_meaning(study: StudyConfig, application: Application) -> Iterator[Problem]:
    """Keys that this application's trials would not heed."""
    if not application.writes_records:
        for key in OF_OWN_RUNS:
            if getattr(study, key) != StudyConfig.model_fields[key].default:
                yield Problem(f"study.{key}", "means nothing to trials of this application")
        seeds = {f"study.phases.{name}.seeds": it.seeds for name, it in study.phases.items()}
        for key, value in {"study.seeds": study.seeds, **seeds}.items():
            if value and application.seed_key is None:
                reason = "study.seed_key=KEY must name the key that repeats: there is no key seed"
                yield Problem(f"{key}={value}", reason)
        for name, phase in study.phases.items():
            if phase.metric is not None:
                reason = "whether more of it is better, nobody knows; study.objective is for all"
                yield Problem(f"study.phases.{name}.metric={phase.metric}", reason)
        return
    for key, instead in OF_OTHERS.items():
        if getattr(study, key):
            hint = f"; here it is {instead}" if instead else ""
            yield Problem(f"study.{key}", f"is for other Hydra applications{hint}")


def _opened(
    study: StudyConfig, others: list[str], config: DictConfig
) -> tuple[StudyConfig, list[str]]:
    """With keys that no file has as a command line would write them, see `open_words`."""
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    data = OmegaConf.to_container(kept, resolve=False)
    assert isinstance(data, dict)
    lines = [others]
    for phase in study.phases.values():
        again = [phase.rerun.overrides] if phase.rerun else []
        lines += [phase.overrides, *(phase.combinations or []), *again]
    found = iter(open_words(lines, data))
    others = next(found)
    for phase in study.phases.values():
        phase.overrides = next(found)
        if phase.combinations:
            phase.combinations = [next(found) for _ in phase.combinations]
        if phase.rerun:
            phase.rerun.overrides = next(found)
    return study, others


def named_phases(phases: Any) -> dict[str, Any]:
    """The phases with the names that a person gave them; to YAML ``1`` is a number.

    Raises:
        UserError: they are no mapping, or a name cannot be told.
    """
    example = "each has a name, e.g. {rate: optimizer.lr=1e-3,1e-2}"
    if not isinstance(phases, dict):
        typed = (
            "study.phases" if isinstance(phases, list) else f"study.phases={format_value(phases)}"
        )
        raise settings_error([Problem(typed, f"must be a mapping: {example}")])
    for name in phases:
        if isinstance(name, bool):
            reason = f"YAML takes the name of a phase for {format_value(name)}; write it in quotes"
            raise settings_error([Problem("study.phases", reason)])
    found = {str(name): phase for name, phase in phases.items()}
    if len(found) < len(phases):
        raise settings_error([Problem("study.phases", "two phases have the same name")])
    return found


def _validated(data: dict[Any, Any]) -> StudyConfig:
    """The section, checked.

    Raises:
        UserError: everything that is wrong with it.
    """
    try:
        study = _Root.model_validate({"study": data}).study
    except ValidationError as error:
        raise settings_error(problems_of(error, {"study": data})) from error
    if problems := study.problems():
        raise settings_error(problems)
    return study


def no_single_values(line: Sequence[str]) -> list[str]:
    """What is wrong with words that must be overrides of one value each."""
    overrides, errors = parse_words(line)
    if errors and (problem := suggest_correction(line)):
        return [str(problem)]
    found = [f"{word}: {syntax_problem(word, error)}" for word, error in errors.items()]
    several = [word for word, override in overrides.items() if override.is_sweep_override()]
    return found + [f"{word}: has several values, and one is needed" for word in several]


def _plain(text: str) -> Any:
    """The value of an override, in Hydra's grammar where it is one value, else as text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except HydraException:
        return text
    return text if override.is_sweep_override() else override.value()

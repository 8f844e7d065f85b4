"""What may stand under ``study:`` in a config; see ``docs/studies.md``."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from common.config.fields import Count, Flag, Fraction, Node, Seed, Text, Whole, told, wrong
from common.config.help import not_one_of, problems_of, refusal
from common.errors import Problem

FULL = "full"
LEAST_SEEDS = 3
"""For ``adopt=significant``: a paired test of two differences has hardly any power."""

PAIRED_TEST = "paired t-test over seeds, one-sided, Bonferroni-corrected for the challengers"

RESERVED = ("test", "superseded", "tables", "figures")
"""Folders of a study that are no phase."""


def words(value: Any) -> list[str]:
    """Overrides as one types them in a shell, ``a=1 'b=[x, y]'``, or as a list of them."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise wrong(f"cannot be read: {error}") from None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    raise wrong("must be overrides as after -m, e.g. model.activation=relu,gelu")


def distinct(values: list[Any]) -> list[Any]:
    """At least one, none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError
    return values


Words = Annotated[list[str], BeforeValidator(words)]
Seeds = Annotated[
    list[Seed], AfterValidator(distinct), told("must be a list of different seeds, e.g. [0,1,2]")
]


class Halving(Node):
    """Successive halving (Jamieson and Talwalkar 2016): the better part of the trials goes on."""

    epochs: Count
    factor: Annotated[float, Field(gt=1), told("must be a number > 1")] = 3.0


class Rerun(Node):
    """The best configurations so far, once more with other settings."""

    top: Count
    overrides: Words


class Phase(Node):
    """One comparison; a text is its ``overrides``."""

    overrides: Words = Field(default_factory=list)
    combinations: Annotated[list[Words] | None, told("must be a list of overrides")] = None
    sample: Count | None = None
    sample_seed: Whole = 0
    seeds: Seeds | None = None
    metric: Text | None = None
    halving: Halving | None = None
    rerun: Rerun | None = None

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        """``activation: model.activation=relu,gelu``"""
        return value if isinstance(value, dict) else {"overrides": value}

    @model_validator(mode="after")
    def fits_together(self) -> Phase:
        """A rerun chooses its configurations itself."""
        own = bool(self.overrides) or self.combinations is not None
        if self.rerun is not None and (own or self.sample or self.halving):
            raise wrong("goes without overrides, combinations, sample and halving", key="rerun")
        if self.rerun is None and not own:
            raise wrong("overrides, combinations or rerun must be given", key="overrides")
        return self


def phase_name(name: str) -> str:
    """A folder's."""
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) or name in RESERVED:
        raise wrong(f"a phase's name has letters, digits, _ and -, and is not {RESERVED}")
    return name


class Hypothesis(Node):
    """A claim about what a key does, which the report answers.

    ``best``: the best mean of ``measure`` is at one of these values. ``order``: its means rise
    from the first of these values to the last.
    """

    claim: Text
    key: Text
    measure: Text = "objective"
    phase: Text | None = None
    best: list[Any] | None = None
    order: list[Any] | None = None

    @model_validator(mode="after")
    def asks_one_thing(self) -> Hypothesis:
        """Either where the best is, or in which order."""
        if (self.best is None) == (self.order is None):
            raise wrong("best or order must be given, one of them", key="best")
        return self


class Study(Node):
    """The section ``study``."""

    name: Annotated[str | None, Field(pattern=r"^[\w-]+$"), told("must be letters, digits, _, -")]
    seeds: Seeds | None
    phases: dict[Annotated[str, AfterValidator(phase_name)], Phase]
    adopt: Literal["best", "significant"]
    alpha: Fraction
    refit: Flag
    retry_failed: Flag
    set_aside: Flag
    isolate: Flag
    dry_run: Flag
    report: Flag
    budgets: dict[str, Words]
    hypotheses: list[Hypothesis]

    def problems(self) -> list[Problem]:
        """Values that are fine alone but not together."""
        found = []
        for name, phase in self.phases.items():
            seeds = phase.seeds or self.seeds or []
            if self.adopt == "significant" and len(seeds) < LEAST_SEEDS and phase.rerun is None:
                reason = f"needs study.seeds of at least {LEAST_SEEDS} in phase {name}"
                found.append(Problem("study.adopt=significant", f"{reason} ({PAIRED_TEST})"))
        first = next(iter(self.phases.values()), None)
        if first is not None and first.rerun is not None:
            key = f"study.phases.{next(iter(self.phases))}.rerun"
            found.append(Problem(key, "there is nothing before the first phase"))
        return found


class _Root(Node):
    study: Study


def read_study(config: DictConfig) -> tuple[Study, list[str]]:
    """The section ``study`` of a composed config, and the overrides of its ``budget``.

    A budget may change the study itself: its words for ``study.*`` are applied, the others
    returned. What was typed for the same key goes first.

    Raises:
        UserError: everything that is wrong with it.
    """
    # unresolved: what `${...}` in a phase means is for the trial's config to say
    data = OmegaConf.to_container(config.study, resolve=False)
    assert isinstance(data, dict)
    budgets, name = data.get("budgets") or {}, config.budget
    if name != FULL and name not in budgets:
        raise refusal([Problem(f"budget={name}", not_one_of(name, [FULL, *budgets]))])
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(task, list)
    typed = [str(word).partition("=")[0] for word in task]
    others: list[str] = []
    if name != FULL:
        section = OmegaConf.create({"study": data})
        for word in words(budgets[name]):
            key, _, value = word.partition("=")
            if not key.startswith("study."):
                others.append(word)
            elif key not in typed:
                OmegaConf.update(section, key, _plain(value), merge=False)
        data = OmegaConf.to_container(section.study, resolve=False)
    try:
        study = _Root.model_validate({"study": data}).study
    except ValidationError as error:
        raise refusal(problems_of(error, {"study": data})) from error
    problems = study.problems()
    if problems:
        raise refusal(problems)
    return study, others


def _plain(text: str) -> Any:
    """The value of an override, in Hydra's grammar where it is one value, else as text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except HydraException:
        return text
    return text if override.is_sweep_override() else override.value()

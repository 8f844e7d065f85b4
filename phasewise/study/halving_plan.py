"""What a study's file says of halving, and what follows for a phase before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Protocol

from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, Field, model_validator

from phasewise.config.fields import Count, CountOrNull, Flag, Text, message, wrong
from phasewise.study.halved import EPOCHS, Halved
from phasewise.study.journal import Branch, Phase
from phasewise.study.rungs import Ladder, Race, Races, deal, epoch_rungs
from phasewise.study.written import Written
from phasewise.text import format_value

END, PAUSE = "trainer.max_epochs", "trainer.pause_after"


def ascending(values: list[int | float]) -> list[int | float]:
    """At least two, each larger than the one before."""
    if len(values) < 2 or any(b <= a for a, b in pairwise(values)):
        raise ValueError
    return values


Amounts = Annotated[
    list[int | float],
    AfterValidator(ascending),
    message("must be a list of ascending numbers, at least two, e.g. [10,30,90]"),
]


class Halving(Written):
    """The better part of the trials goes on, see `phasewise.study.rungs`."""

    EXAMPLE = "{epochs: 2, factor: 3}"
    epochs: CountOrNull = None
    key: Text | None = None
    values: Amounts | None = None
    factor: Annotated[float, Field(gt=1), message("must be a number > 1")] = 3.0
    brackets: Count = 1
    asynchronous: Flag = False
    parallel: CountOrNull = None

    @model_validator(mode="after")
    def fits_together(self) -> Halving:
        """Rungs are epochs, or the values of a key."""
        if (self.epochs is None) == (self.key is None):
            raise wrong("either epochs, or key with values, must be given", key="epochs")
        if (self.key is None) != (self.values is None):
            raise wrong("goes with key, e.g. {key: n_estimators, values: [10,30,90]}", key="values")
        if self.parallel is not None and not self.asynchronous:
            raise wrong("is for asynchronous: true", key="parallel")
        if self.values is not None and self.brackets > len(self.values):
            raise wrong(f"must be at most {len(self.values)}, one for each of values", "brackets")
        return self

    def words(self) -> list[str]:
        """The overrides that make the runs of each rung, the last included; none for epochs."""
        return [f"{self.key}={format_value(value)}" for value in self.values or []]


class HasHalving(Protocol):
    """A phase's settings."""

    halving: Halving | None


def last_rung(spec: HasHalving) -> list[str]:
    """What all trials of a phase have that halves by the values of a key."""
    return spec.halving.words()[-1:] if spec.halving is not None else []


def halved_of(
    settings: Halving, configs: Sequence[DictConfig], declared: Mapping[str, Any]
) -> tuple[Halved | None, list[str], list[str]]:
    """How a phase halves, what is wrong with that, and what is to be told of it.

    Args:
        settings: of the phase.
        configs: of its candidates.
        declared: the keys that it varies.
    """
    rungs, reasons = _rungs(settings, configs, declared)
    if not rungs:
        return None, reasons, []
    notes = []
    if len(rungs) == 1:
        notes.append(f"halving after {settings.epochs} epochs compares nothing before the end")
    brackets = min(settings.brackets, len(rungs))
    if brackets < settings.brackets:
        notes.append(f"halving has {brackets} brackets, one for each rung, not {settings.brackets}")
    found = Halved(
        settings.key or EPOCHS,
        rungs,
        settings.factor,
        brackets,
        settings.asynchronous,
        settings.parallel or 1,
    )
    return found, [], notes


def _rungs(
    settings: Halving, configs: Sequence[DictConfig], declared: Mapping[str, Any]
) -> tuple[list[int | float], list[str]]:
    if settings.epochs is None:
        assert settings.values is not None
        if settings.key in declared:
            return [], [f"{settings.key} is what scales the trials, and the phase varies it too"]
        return list(settings.values), []
    epochs = {OmegaConf.select(config, END) for config in configs}
    if any(OmegaConf.select(config, PAUSE, default=PAUSE) == PAUSE for config in configs):
        return [], [
            f"epochs needs {PAUSE}, which this application does not have; by values of a key each "
            "rung runs anew: halving: {key: KEY, values: [10,30,90]}"
        ]
    if len(epochs) > 1:
        return [], [f"halving compares after equal shares of {END}, which varies here"]
    first = settings.epochs
    return [*epoch_rungs(first, settings.factor, epochs.pop())] if epochs else [], []


def halving_plan_text(phase: Phase) -> list[str]:
    """What a plan says of a phase that halves: a line, with the epochs that it takes at most."""
    if phase.halving is None:
        return []
    if phase.search is not None:  # so does who is asked for then
        return [f"{phase.halving.text()}, each batch by itself"]
    if phase.halving.asynchronous:  # how many go on depends on who comes first
        return [phase.halving.text()]
    seeds, halved = len(phase.seeds), phase.halving
    race = race_of(phase)
    starts = {branch.incumbent for branch in phase.rivals()}
    while moves := race.wave():
        for move in moves:  # who goes on beside the incumbent, if that is never among the best
            race.tell(move.row, move.rung, -1.0 if move.row in starts else 0.0)
    full, spent = cost(phase, race)
    unit = "epochs" if halved.unit == EPOCHS else f"in all of {halved.unit}"
    return [f"{halved.text()}: at most {spent * seeds:g} {unit} instead of {full * seeds:g}"]


def race_of(phase: Phase) -> Races:
    """The races of a phase that halves, one per branch, before their first wave; candidates learn
    their brackets."""
    return Races([_race(phase, branch) for branch in phase.rivals()])


def _race(phase: Phase, branch: Branch) -> Race:
    settings = phase.halving
    assert settings is not None
    ladder = Ladder(tuple(settings.rungs), settings.factor, settings.brackets)
    race = Race(
        ladder,
        phase.objective["mode"],
        incumbent=branch.incumbent,
        parallel=settings.parallel if settings.asynchronous else None,
    )
    rows = [row for row in branch.candidates if phase.candidates[row].trials]
    dealt = [row for row in rows if row != branch.incumbent]
    names = [" ".join(sorted(phase.candidates[row].overrides)) for row in dealt]
    brackets = dict(zip(dealt, deal(names, ladder), strict=True))
    for row in rows:
        phase.candidates[row].bracket = brackets.get(row, 0)
        race.enter(row, phase.candidates[row].bracket)
    return race


def cost(phase: Phase, race: Races) -> tuple[float, float]:
    """What all candidates would have taken to the end, and what they took, with one seed each.

    In the unit of the rungs; where each rung begins anew, all of them count.
    """
    settings = phase.halving
    assert settings is not None
    full = spent = 0.0
    for row, candidate in enumerate(phase.candidates):
        rung = race.reached(row)
        if rung >= 0:
            first = rung if settings.unit == EPOCHS else candidate.bracket
            full += settings.rungs[-1]
            spent += sum(settings.rungs[first : rung + 1])
    return full, spent

"""What a phase searches: its words in Hydra's sweep grammar as dimensions of a space.

``optimizer.lr=tag(log,interval(1e-5,1e-1))`` is a number on a logarithmic scale,
``model.depth=int(interval(1,8))`` and ``range(1,9)`` are whole numbers, ``model.norm=batch,group``
and ``choice(...)`` are choices without an order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
)

from phasewise.config.override_syntax import parse_words, suggest_correction, syntax_problem
from phasewise.errors import Problem, UserError
from phasewise.study.naming import parse_override
from phasewise.study.overrides import exact

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 4
"""Significant digits of a number that is asked for: of its value, or of the width of its interval
where that gives more. Directories, fingerprints and duplicates go by them."""

LOG = "log"
NEAR = 0.05

Value = float | int | str


@dataclass
class Dimension:
    """One key of a space.

    Attributes:
        key: as it is written before the equals sign, e.g. ``++model.width``.
        kind: ``choice`` has no order; ``float`` and ``int`` lie between ``low`` and ``high``, both
            included.
        typed: what stands after the equals sign in the study's file.
        words: whole overrides, one per choice.
        step: distance of the values of a range, counted from ``low``; ``None`` for any number, of
            whole ones 1.
        log: whether numbers are drawn from a logarithmic scale.
    """

    key: str
    kind: Literal["choice", "float", "int"]
    typed: str
    words: list[str] = field(default_factory=list)
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def name(self) -> str:
        """The key without what adds it to the config."""
        return self.key.lstrip("+~").partition("@")[0]

    @property
    def size(self) -> float:
        """How many values there are; infinity of an interval of numbers."""
        if self.kind == "choice":
            return len(self.words)
        step = 1 if self.kind == "int" and self.step is None else self.step
        return math.inf if step is None else round((self.high - self.low) / step) + 1

    def distribution(self) -> BaseDistribution:
        """Optuna's."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.words)
        if self.kind == "int":
            step = 1 if self.step is None else int(self.step)
            return distributions.IntDistribution(
                int(self.low), int(self.high), log=self.log, step=step
            )
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def word(self, value: Value) -> str:
        """The override of a value that was asked for, in the one form that it has."""
        if self.kind == "choice":
            return str(value)
        if self.kind == "int":
            return f"{self.key}={int(value)}"
        return f"{self.key}={self.rounded(float(value))!r}"

    def rounded(self, value: float) -> float:
        """Of a float: as many digits as count, see `DIGITS`, and never outside.

        >>> Dimension("lr", "float", "", low=1e-5, high=1e-1, log=True).rounded(3.14159e-4)
        0.0003142
        """
        if self.step is not None:  # in decimals: 0.1 + 2 * 0.1 is no 0.3
            steps = round((value - self.low) / self.step)
            return float(Decimal(repr(self.low)) + steps * Decimal(repr(self.step)))
        scales = [self.high - self.low, *([abs(value)] if self.log else [])]
        places = max(DIGITS - 1 - math.floor(math.log10(scale)) for scale in scales)
        return min(max(round(value, places), self.low), self.high)

    def ends(self) -> list[str]:
        """The overrides that show whether its values can be used: all choices, or both ends."""
        if self.kind == "choice":
            return self.words
        return [self.word(self.low), self.word(self.high)]

    def end_near(self, value: float) -> str:
        """Which end a number is within a twentieth of, on its scale: ``smallest``, ``largest`` or
        none, which is empty."""
        ends = [self.low, self.high, value]
        low, high, own = map(math.log, ends) if self.log else ends
        share = (own - low) / (high - low)
        return "smallest" if share <= NEAR else "largest" if share >= 1 - NEAR else ""

    def holds(self, word: str) -> Value | None:
        """The value that a word of this key has, where it lies in here."""
        wanted = parse_override(word).value()
        if self.kind == "choice":
            same = (it for it in self.words if _equal(parse_override(it).value(), wanted))
            return next(same, None)
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            return None
        if self.kind == "int" and wanted != int(wanted):
            return None
        if not self.low <= wanted <= self.high:
            return None
        step = 1 if self.kind == "int" and self.step is None else self.step
        steps = 0.0 if step is None else (wanted - self.low) / step
        on_grid = math.isclose(steps, round(steps), abs_tol=1e-9)
        value = int(wanted) if self.kind == "int" else float(wanted)
        return value if on_grid else None


@dataclass(frozen=True)
class Space:
    """What a phase searches.

    Attributes:
        fixed: words of one value, which all its trials have.
        dimensions: in the order typed.
    """

    fixed: list[str]
    dimensions: list[Dimension]

    @property
    def size(self) -> float:
        """How many configurations there are; infinity where some number is any."""
        return math.prod(one.size for one in self.dimensions)

    @property
    def declared(self) -> dict[str, list[str]]:
        """The values of each key that has single ones to choose from, as text."""
        return {
            one.name: [word.partition("=")[2] for word in one.words]
            for one in self.dimensions
            if one.kind == "choice"
        }


def read_space(words: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space that the overrides of a phase describe.

    Args:
        words: of which some have several values, or an interval.
        loader: Hydra's, which knows what a ``glob()`` of config groups matches.

    Raises:
        UserError: all words that are none, or describe nothing; there is nothing to search.
    """
    overrides, errors = parse_words(words, loader)
    if errors and (problem := suggest_correction(words, loader)):
        raise UserError(problems=[problem])
    problems = [Problem(word, syntax_problem(word, error)) for word, error in errors.items()]
    fixed, dimensions = [], []
    for word, override in overrides.items():
        try:
            found = _dimension(override)
        except ValueError as error:
            problems.append(Problem(word, str(error)))
            continue
        if found is None:
            fixed.append(word)
        else:
            dimensions.append(found)
    if not dimensions and not problems:
        reason = "has nothing to search: overrides: KEY=interval(LOW,HIGH), or KEY=A,B,C"
        problems.append(Problem("search", reason))
    if problems:
        raise UserError(problems=problems)
    return Space(fixed, dimensions)


def _dimension(override: Override) -> Dimension | None:
    """One word's; ``None`` where it has a single value.

    Raises:
        ValueError: why it describes nothing.
    """
    key, sweep = override.get_key_element(), override.value()
    if not override.key_or_group:
        raise ValueError("a key stands before the equals sign")
    if not override.is_sweep_override():
        return None
    typed = str(override.input_line).partition("=")[2]
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if unknown := sorted(tags - {LOG}):
        raise ValueError(f"a search knows no tag {unknown[0]}; log is one")
    if isinstance(sweep, IntervalSweep):
        return _interval(key, typed, sweep)
    if isinstance(sweep, RangeSweep) and sweep.step == 0:
        raise ValueError("the step of a range must not be 0")
    if isinstance(sweep, ChoiceSweep | RangeSweep):  # the order is the sampler's affair
        override = replace(override, _value=replace(sweep, shuffle=False))
    words = [cell[0] for cell in BasicSweeper.split_arguments([exact(override)], None)[0]]
    words = list(dict.fromkeys(words))
    if not words:
        raise ValueError("has no values")
    if isinstance(sweep, RangeSweep):
        return _range(key, typed, sweep, words)
    if tags:
        raise ValueError("log is for numbers of an interval, or whole ones of a range by 1")
    return Dimension(key, "choice", typed, words=words)


def _interval(key: str, typed: str, sweep: IntervalSweep) -> Dimension:
    low, high, log = sweep.start, sweep.end, LOG in sweep.tags
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("an interval goes from a number to a larger one")
    if log and low <= 0:
        raise ValueError("a logarithmic interval begins above 0")
    whole = isinstance(low, int) and isinstance(high, int)
    return Dimension(key, "int" if whole else "float", typed, low=low, high=high, log=log)


def _range(key: str, typed: str, sweep: RangeSweep, words: list[str]) -> Dimension:
    texts = [parse_override(word).get_value_element_as_str() for word in words]
    values: list[float] = sorted(int(it) if it.lstrip("-").isdigit() else float(it) for it in texts)
    log, whole = LOG in sweep.tags, all(isinstance(value, int) for value in values)
    step = abs(sweep.step)
    if log and not (whole and step == 1 and values[0] > 0):
        raise ValueError("log is for numbers of an interval, or whole ones > 0 of a range by 1")
    if len(values) == 1:
        return Dimension(key, "choice", typed, words=words)
    kind: Literal["int", "float"] = "int" if whole else "float"
    step = float(f"{step:.15g}") if kind == "float" else int(step)
    return Dimension(key, kind, typed, low=values[0], high=values[-1], step=step, log=log)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a config are the same; ``true`` is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def draw_value(one: Dimension, draw: random.Random) -> Value:
    """A value of a dimension, all as likely, on the scale that it has."""
    if one.kind == "choice":
        return draw.choice(one.words)
    if not math.isinf(one.size) and not one.log:
        value = one.low + draw.randrange(int(one.size)) * (one.step or 1)
        return int(value) if one.kind == "int" else value
    if not one.log:
        return draw.uniform(one.low, one.high)
    half = 0.5 if one.kind == "int" else 0.0  # each whole number has the share that is nearest
    value = math.exp(draw.uniform(math.log(one.low - half), math.log(one.high + half)))
    return min(max(round(value), int(one.low)), int(one.high)) if one.kind == "int" else value

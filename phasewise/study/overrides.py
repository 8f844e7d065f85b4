"""Overrides of trials: expanded from what a phase says, put together, and taken apart again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from phasewise.config.override_syntax import parse_words, suggest_correction, syntax_problem
from phasewise.errors import Problem, UserError
from phasewise.study.naming import parse_override, parse_overrides, trial_name

SEED = "seed"
Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The configurations of a phase.

    Attributes:
        cells: overrides of each, without its seed, in the order of Hydra's own sweeper.
        seeds: the values of a swept ``seed``, which repeats and does not compete.
        declared: the values of each key that varies, as text, in the order typed.
        sampled_from: how many there were before ``sample`` drew.
        repeated: how many were the same as another one.
    """

    cells: list[Overrides]
    seeds: list[int]
    declared: dict[str, list[str]]
    sampled_from: int | None = None
    repeated: int = 0


def expand(
    lines: Sequence[Sequence[str]],
    loader: ConfigLoader,
    seed: int = 0,
    seed_key: str | None = SEED,
) -> Grid:
    """All combinations of the values of each line, each cell once.

    Args:
        lines: words, of which several values make several cells.
        loader: Hydra's, which knows what a ``glob()`` of config groups matches.
        seed: of the order in which ``shuffle()`` puts values, the same in every call.
        seed_key: the key whose values repeat and do not compete.

    Raises:
        UserError: if there is none, or a line cannot be read.
    """
    with _seeded(seed):
        combinations = [cell for line in lines for cell in _product(line, loader)]
    if not combinations:
        raise UserError("the sweep has no trial: one of its keys has no values")
    seeds: dict[int, None] = {}
    once: dict[str, Overrides] = {}
    for combination in combinations:
        overrides = parse_overrides(combination)
        plain = [o for o in overrides if o.key_or_group != seed_key]
        if len(plain) < len(overrides):
            seeds |= {_seed(override): None for override in overrides if override not in plain}
        cell = tuple(str(override.input_line) for override in plain)
        once.setdefault(trial_name(cell), cell)
    cells = list(once.values())
    repeated = len(combinations) - len(cells) * max(len(seeds), 1)
    return Grid(cells, list(seeds), _declared(cells), repeated=max(repeated, 0))


def sample_grid(grid: Grid, count: int, seed: int) -> Grid:
    """A random part of a grid, in its order; the same for the same seed."""
    if count >= len(grid.cells):
        return grid
    rows = sorted(random.Random(seed).sample(range(len(grid.cells)), count))
    cells = [grid.cells[row] for row in rows]
    return Grid(cells, grid.seeds, grid.declared, len(grid.cells), grid.repeated)


def merge(*lists: Iterable[str]) -> list[str]:
    """One list in which the last word of each key counts, at its last place."""
    found: dict[str, str] = {}
    for word in (word for words in lists for word in words):
        key = key_of(parse_override(word))
        found.pop(key, None)
        found[key] = word
    return list(found.values())


def key_of(override: Override) -> str:
    """The key, with its package, whether the override adds, sets or removes it."""
    return override.get_key_element().lstrip("+~")


def without(
    declared: dict[str, list[str]], dropped: Sequence[Overrides], kept: Sequence[Overrides]
) -> dict[str, list[str]]:
    """``declared`` less the values that only cells which were dropped have."""
    gone, there = _values(dropped), _values(kept)
    left = {
        key: [text for text in texts if text not in gone.get(key, ()) or text in there.get(key, ())]
        for key, texts in declared.items()
    }
    return {key: texts for key, texts in left.items() if len(texts) > 1}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Hydra shuffles with the generator of the whole process, which is left as it was."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _seed(override: Override) -> int:
    value = override.value()
    if not isinstance(value, int) or value < 0:
        raise UserError(problems=[Problem(f"seed={value}", "must be a whole number in [0, 2**32)")])
    return value


def _product(line: Sequence[str], loader: ConfigLoader) -> list[Overrides]:
    overrides = [exact(override) for override in parsed(line, loader)]
    return [tuple(cell) for cell in BasicSweeper.split_arguments(overrides, None)[0]]


def parsed(line: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """The overrides of one line, each of one value or of some.

    Raises:
        UserError: all words that are none, and those of no value or of infinitely many.
    """
    overrides, errors = parse_words(line, loader)
    if errors and (problem := suggest_correction(line, loader)):
        raise UserError(problems=[problem])
    problems = [Problem(word, syntax_problem(word, error)) for word, error in errors.items()]
    for word, override in overrides.items():
        if reason := _no_grid(override):
            problems.append(Problem(word, reason))
    if problems:
        raise UserError(problems=problems)
    return [overrides[word] for word in line]


def _no_grid(override: Override) -> str | None:
    """Why there are no values to go through, if there are none."""
    key, values = override.key_or_group, override.value()
    if not key:
        return "a key stands before the equals sign"
    if isinstance(values, IntervalSweep):
        evenly = f"{key}=range({values.start:g},{values.end:g},STEP)"
        return (
            f"an interval has no single values; write some, {key}=A,B,C, or a range, {evenly}, or "
            "give the phase a search: {sampler: tpe, trials: 30}"
        )
    if isinstance(values, RangeSweep) and values.step == 0:
        return "the step of a range must not be 0"
    if override.is_sweep_override() and not list(override.sweep_iterator()):
        return "has no values"
    return None


def exact(override: Override) -> Override:
    """With a range that counts in decimals, as typed: Hydra's goes from 0.1 to 0.30000000000000004.

    Fifteen significant digits are those that a float keeps.
    """
    values = override.value()
    if not isinstance(values, RangeSweep):
        return override
    ends = {name: getattr(values, name) for name in ("start", "stop", "step")}
    if all(isinstance(end, int) for end in ends.values()):
        return override
    exact = copy(values)
    for name, end in ends.items():
        setattr(exact, name, Decimal(f"{end:.15g}"))
    return replace(override, _value=exact)


def _declared(cells: Sequence[Overrides]) -> dict[str, list[str]]:
    """The values that each key takes, of keys that do not have the same one everywhere."""
    return {key: list(texts) for key, texts in _values(cells).items() if len(texts) > 1}


def _values(cells: Sequence[Overrides]) -> dict[str, dict[str, None]]:
    """The values of each key, as text, in the order of the cells."""
    values: dict[str, dict[str, None]] = {}
    for cell in cells:
        for override in parse_overrides(cell):
            text = override.get_value_element_as_str() if override.value_type else "(removed)"
            values.setdefault(override.key_or_group, {})[text] = None
    return values

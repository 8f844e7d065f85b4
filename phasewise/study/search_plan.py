"""What is known of a search before its first trial: its plan, and whether its space can be used."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from hydra.core.config_loader import ConfigLoader

from phasewise.config.help import settings_error
from phasewise.study.application import Application
from phasewise.study.journal import SearchPlan
from phasewise.study.override_checks import nothing_to_compare
from phasewise.study.overrides import Grid
from phasewise.study.sampling import check_sampler, library
from phasewise.study.schema import PhaseConfig
from phasewise.study.space import Space, draw_value, read_space

TRIES = 20
"""Draws of the other keys by which a value is given a chance that cannot run with the start's."""


def searched_grid(spec: PhaseConfig, loader: ConfigLoader, application: Application) -> Grid:
    """A grid of no cell, for each is asked for when those before it have results.

    Raises:
        UserError: the words describe no space, or none that the sampler can search.
    """
    assert spec.search is not None
    space = read_space(spec.overrides, loader)
    check_sampler(spec.search.sampler, space)
    swept = {one.name: [one.typed] for one in space.dimensions}
    if problems := nothing_to_compare(swept, application):
        raise settings_error(problems)
    return Grid([], [], space.declared)


def planned_search(spec: PhaseConfig, loader: ConfigLoader) -> SearchPlan:
    """The plan of a phase whose words were read once."""
    settings = spec.search
    assert settings is not None
    space = read_space(spec.overrides, loader)
    return SearchPlan(
        settings.sampler,
        settings.trials,
        settings.parallel,
        settings.at_random,
        settings.seed,
        library(),
        space.fixed,
        space.dimensions,
    )


def probes(search: SearchPlan, can_run: Callable[[list[str]], bool]) -> Iterator[list[str]]:
    """Overrides that show whether each value at an end can be used at all.

    One that cannot run beside the start's other values is tried with drawn ones, for it may need
    another choice of the same space: ``scheduler.patience`` needs ``scheduler=plateau``.
    """
    draw = random.Random(search.seed)
    for dimension in search.space:
        others = [one for one in search.space if one is not dimension]
        for word in dimension.ends():
            alone = [*search.fixed, word]
            tries = (
                [*search.fixed, *(it.word(draw_value(it, draw)) for it in others), word]
                for _ in range(TRIES if others else 0)
            )
            yield alone if can_run(alone) else next((it for it in tries if can_run(it)), alone)


def space_of(search: SearchPlan) -> Space:
    """As the sampler sees it."""
    return Space(search.fixed, search.space)

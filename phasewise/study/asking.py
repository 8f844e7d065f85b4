"""Asks a sampler for the candidates of a phase, or of one of its branches."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from omegaconf import OmegaConf

from phasewise.study.branches import name_level
from phasewise.study.journal import Branch
from phasewise.study.plan import Planner, Stage
from phasewise.study.sampling import Sampler, Values
from phasewise.study.search_plan import space_of
from phasewise.text import format_value

MOST_REPEATS = 50
"""So often a sampler may ask in a row for what was tried before one is drawn at random."""

EXHAUSTED = "all configurations of its space were tried"

log = logging.getLogger(__name__)


@dataclass
class Told:
    """What came of candidates, by their indices in the phase.

    Attributes:
        values: the mean over the seeds; ``None`` where one has no result.
        stopped: by halving: the mean there, at which rung.
    """

    values: dict[int, float | None] = field(default_factory=dict)
    stopped: dict[int, tuple[float, int]] = field(default_factory=dict)


class Asker:
    """Asks for a batch, whose results are told before the next one.

    Args:
        stage: of the phase; candidates are appended to it.
        planner: makes them.
        told: what came of them so far.
        branch: whose candidates they are, where the phase has branches.
    """

    def __init__(
        self, stage: Stage, planner: Planner, told: Told, branch: Branch | None = None
    ) -> None:
        assert stage.phase.search is not None
        self.stage, self.phase, self.plan = stage, stage.phase, stage.phase.search
        self.planner, self.told, self.branch = planner, told, branch
        self.space = space_of(self.plan)
        self.sampler = Sampler(self.plan, self.space, self.phase.objective["mode"])
        self._tally = self.plan if branch is None else branch
        row = self.phase.incumbent if branch is None else branch.incumbent
        assert row is not None
        self.incumbent = row
        self._rows: dict[tuple[str, ...], int] = {}
        self._pending: list[tuple[int, int]] = []  # number of an asked trial, its candidate
        self._has_begun = False

    @property
    def left(self) -> int:
        """How many may still be asked for; the incumbent does not count."""
        own = self.phase.candidates if self.branch is None else self.branch.candidates
        return 0 if self._tally.ended else self.plan.trials - (len(own) - 1)

    def end(self, reason: str) -> None:
        """Ask for no more."""
        self._tally.ended = reason

    def ask(self) -> list[int]:
        """The candidates of the next batch, the incumbent first of all; none when all are told."""
        batch = [] if self._has_begun else self._begin_with_the_incumbent()
        self._has_begun = True
        room = min(self.plan.parallel - len(batch), self.left)
        return batch + [row for _ in range(room) if (row := self._next()) is not None]

    def tell(self) -> None:
        """What came of the last batch."""
        for number, row in sorted(self._pending):
            self._tell(number, row)
        self._pending = []

    def _begin_with_the_incumbent(self) -> list[int]:
        """It is trial 0; the sampler learns of it where it is one of its space."""
        own = tuple(job.fingerprint for job in self.stage.jobs[self.incumbent])
        self.stage.once[own] = self.incumbent
        values, outside = self._values_of_base()
        if not outside:
            number, _ = self.sampler.ask(values)
            self._pending.append((number, self.incumbent))
            self._rows[self._words(values)] = self.incumbent
        else:
            where = "" if self.branch is None else f" {self.phase.per}={self.branch.level}"
            log.info(
                "\n%s%s: the incumbent competes, but the sampler does not learn from it, for it is "
                "not in the space that is searched: %s",
                self.phase.name,
                where,
                outside,
            )
        return [self.incumbent]

    def _values_of_base(self) -> tuple[Values, str]:
        """The incumbent's values of what is searched, and what of it lies outside."""
        seed = self.phase.seeds[0]
        words = self.planner.words(
            self.phase, self.phase.candidates[self.incumbent].overrides, seed
        )
        config = self.planner.composer.config_of(words)
        found: Values = {}
        for dimension in self.space.dimensions:
            here = self.planner.choices.chosen(dimension.name, words)
            here = OmegaConf.select(config, dimension.name) if here is None else here
            plain = OmegaConf.to_container(here) if OmegaConf.is_config(here) else here
            word = f"{dimension.key}={format_value(plain)}"
            value = dimension.holds(word)
            if value is None:
                return {}, word
            found[dimension.name] = value
        identity = self.planner.composer.try_fingerprint
        same = self.planner.words(self.phase, self._overrides(self._exactly(found)), seed)
        is_same = identity(same, "", {}) == identity(words, "", {})
        return (found, "") if is_same else ({}, " ".join(["it is without", *self.space.fixed]))

    def _exactly(self, values: Values) -> list[str]:
        """Overrides with all digits of the values, as the incumbent has them."""
        dimensions = ((one, values[one.name]) for one in self.space.dimensions)
        exact = [str(it) if one.kind == "choice" else f"{one.key}={it!r}" for one, it in dimensions]
        return [*self.space.fixed, *exact]

    def _words(self, values: Values) -> tuple[str, ...]:
        own = (one.word(values[one.name]) for one in self.space.dimensions)
        return (*self.space.fixed, *own)

    def _overrides(self, words: list[str]) -> list[str]:
        return self.planner.beside(self.stage, self.incumbent, words)

    def _next(self) -> int | None:
        """The candidate of the next configuration that is new; ``None`` where there is none."""
        repeats = 0
        while self.left:
            if len(self._rows) >= self.space.size:
                self.end(EXHAUSTED)
                return None
            # a sampler that has found its place asks for nothing else
            drawn = self.sampler.at_random() if repeats >= MOST_REPEATS else None
            if drawn is not None and self._words(drawn) in self._rows:
                continue
            number, values = self.sampler.ask(drawn)
            row, is_new = self._candidate(values)
            can_run = bool(self.stage.jobs[row])
            if row in self.told.values or not can_run:
                self._tell(number, row)
            else:
                self._pending.append((number, row))
            if is_new and can_run:
                return row
            repeats += not is_new
            self._tally.repeated += not is_new
        return None

    def _tell(self, number: int, row: int) -> None:
        """What came of a candidate, as often as it was asked for."""
        if row in self.told.stopped:
            self.sampler.tell_stopped(number, *self.told.stopped[row])
        else:
            self.sampler.tell(number, self.told.values.get(row))

    def _candidate(self, values: Values) -> tuple[int, bool]:
        """The index of the candidate that has these values, and whether there was none before."""
        words, row = self._words(values), len(self.phase.candidates)
        if words in self._rows:
            return self._rows[words], False
        lead = [*([self.phase.per] if self.branch else []), *(it.name for it in self.plan.space)]
        self.planner.add(self.stage, self._overrides(list(words)), lead)
        identity = tuple(job.fingerprint for job in self.stage.jobs[row])
        twin = self.stage.once.setdefault(identity, row) if identity else row
        if twin != row:  # its words are others, and it computes the same
            del self.phase.candidates[row], self.stage.jobs[row]
        elif self.branch is not None:
            self.branch.candidates.append(row)
            name_level(self.stage, row)
        self._rows[words] = twin
        return twin, twin == row

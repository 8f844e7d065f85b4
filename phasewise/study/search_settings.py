"""What may stand under ``search:`` of a phase: which sampler asks for how many trials."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, model_validator

from phasewise.config.fields import Count, CountOrNull, Whole, wrong
from phasewise.config.help import not_one_of
from phasewise.study.written import Written

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random")
"""Of Optuna, by ask and tell; see `phasewise.study.sampling`."""

LEARNING = ("tpe", "gp", "cmaes")
"""Those that go by results, after some trials at random."""

STARTUP = 10
"""So many trials are drawn at random before a sampler goes by their results, as in Optuna; of few
trials no more than a third."""

FULL_RESULTS = ("gp", "cmaes")
"""Those that take no notice of trials which were stopped early."""

NEEDS = {"gp": ("torch", "vision"), "cmaes": ("cmaes", "cmaes")}
"""What a sampler needs beside Optuna, and the extra that has it."""


def _sampler(name: Any) -> Any:
    if name not in SAMPLERS:
        raise wrong(not_one_of(name, SAMPLERS))
    return name


def _installed(name: str) -> str:
    package, extra = NEEDS.get(name, ("optuna", ""))
    if find_spec(package) is None:
        raise wrong(f"needs the package {package}: pip install 'phasewise[{extra}]'")
    return name


class Search(Written):
    """Which configurations a phase tries is asked of a sampler, batch after batch.

    Attributes:
        sampler: one of `SAMPLERS`.
        trials: so many different ones are asked for; the incumbent comes beside them.
        parallel: of a batch. A batch is asked when all before it have their results, so that this
            decides which trials there are; how many run side by side is the launcher's affair.
        startup: so many are drawn at random before the sampler goes by results.
        seed: of the sampler.
    """

    EXAMPLE: ClassVar[str] = "{sampler: tpe, trials: 30, parallel: 4}"

    sampler: Annotated[str, BeforeValidator(_sampler), AfterValidator(_installed)]
    trials: Count
    parallel: Count = 1
    startup: CountOrNull = None
    seed: Whole = 0

    @model_validator(mode="after")
    def leaves_something_to_learn(self) -> Search:
        """A sampler that learns needs trials after those at random."""
        if self.sampler not in LEARNING:
            if self.startup is not None:
                raise wrong(f"is for {', '.join(LEARNING)}, which go by results", key="startup")
        elif self.startup is not None and self.trials <= self.startup:
            reason = f"must be more than the {self.startup} of startup, which are drawn at random"
            raise wrong(reason, key="trials")
        return self

    @property
    def at_random(self) -> int:
        """Trials before the sampler goes by results; 0 where it never does."""
        if self.sampler not in LEARNING:
            return 0
        return self.startup or max(1, min(STARTUP, self.trials // 3))

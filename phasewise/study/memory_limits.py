"""Which trials need not be tried: one that needs less memory has run out of it.

Which keys ask for more memory where they are larger, a study says (``study.memory_grows_with``).
Nothing follows for a trial that differs in anything else, and nothing where a run may make its own
batches smaller (``trainer.auto_accumulate``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf

from phasewise.config.help import flatten, no_such_key, settings_error
from phasewise.config.lifecycle import own_overrides
from phasewise.errors import Problem
from phasewise.records.record import DATA_MARK, TRIED, RunRecord, read_record
from phasewise.study.compatibility import ERRORS
from phasewise.study.compose import Composer
from phasewise.study.trial_job import TrialJob
from phasewise.text import format_value

KEY = "study.memory_grows_with"
SHRINKS = "trainer.auto_accumulate"

Values = Mapping[str, float]


class MemoryLimits:
    """What ran out of memory so far, and what needs at least as much.

    Args:
        composer: composes the configs of trials.
        keys: of numbers; of two configs that are otherwise the same, one that has none of them
            smaller and some of them larger needs more memory.
    """

    def __init__(self, composer: Composer, keys: Sequence[str]) -> None:
        self.composer = composer
        self.keys = list(keys)
        self._known: list[tuple[RunRecord, Values]] = []

    def note(self, record: RunRecord | None) -> None:
        """Remember a trial that ran out of memory."""
        if not self.keys or record is None or record.status != "out_of_memory":
            return
        with suppress(*ERRORS):  # of an earlier call, whose words may be no more
            if record.was_tried:
                config = self.composer.config_of(record.overrides)
                self._known.append((record, self._values(config)))

    def infer(self, job: TrialJob) -> RunRecord | None:
        """The record of a trial that needs more memory than one that ran out of it; it is written,
        and nothing is tried. ``None`` where that is not known."""
        if not self._known:
            return None
        config = self.composer.config_of(job.words)
        if OmegaConf.select(config, SHRINKS):
            return None
        values = self._values(config)
        for known, less in self._known:
            larger = _larger(values, less)
            if larger and self._same_otherwise(config, less, known):
                return self._written(job, config, known, {key: less[key] for key in larger})
        return None

    def _values(self, config: DictConfig) -> Values:
        found = {key: OmegaConf.select(config, key) for key in self.keys}
        return {key: value for key, value in found.items() if _is_number(value)}

    def _same_otherwise(self, config: DictConfig, less: Values, known: RunRecord) -> bool:
        """Whether a config with the smaller values would be what ran out of memory."""
        smaller = config.copy()
        for key, value in less.items():
            OmegaConf.update(smaller, key, value)
        return self.composer.application.identify(smaller).fingerprint == known.fingerprint

    def _written(
        self, job: TrialJob, config: DictConfig, known: RunRecord, less: Values
    ) -> RunRecord:
        """As it stands there already, if an earlier call found the same."""
        name = known.directory.relative_to(job.study_directory)
        what = " and ".join(
            f"{key} ({format_value(OmegaConf.select(config, key))}, {format_value(value)} there)"
            for key, value in less.items()
        )
        reason = f"not tried: {name} ran out of memory, and this differs only in a larger {what}"
        there = read_record(job.directory)
        if there is not None and there.is_of(job.fingerprint) and there.error == reason:
            return there
        application = self.composer.application
        record = RunRecord.start(
            job.directory,
            task=application.name,
            fingerprint=job.fingerprint.partition(DATA_MARK)[0],
            overrides=own_overrides(job.words),
            seed=OmegaConf.select(config, application.seed_key or "seed"),
            metric=job.objective["metric"],
            mode=job.objective["mode"],
        )
        record.finish("out_of_memory", error=reason, cost={TRIED: False})
        return record


def check_keys(keys: Sequence[str], config: DictConfig) -> None:
    """See that the keys of `MemoryLimits` are there, and numbers.

    Raises:
        UserError: what is wrong with which.
    """
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(kept, resolve=False)
    assert isinstance(plain, dict)
    plain.pop("study", None)
    problems = []
    for key in keys:
        value: Any = OmegaConf.select(config, key)
        if value is None:
            problems.append(Problem(f"{KEY}={key}", no_such_key(key, flatten(plain)).reason))
        elif not _is_number(value):
            problems.append(Problem(f"{KEY}={key}", f"must be a key of a number, not {value!r}"))
    if problems:
        raise settings_error(problems)


def _larger(values: Values, less: Values) -> list[str]:
    """The keys whose values are larger; none where one is smaller, or not known on both sides."""
    if values.keys() != less.keys() or any(values[key] < less[key] for key in less):
        return []
    return [key for key in less if values[key] > less[key]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Which words a phase cannot have: what concerns the study around it, or compares nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hydra.errors import HydraException

from phasewise.config.fingerprint import NOT_COMPUTATION
from phasewise.config.foreign import STUDY
from phasewise.errors import Problem
from phasewise.study.application import Application
from phasewise.study.naming import parse_override
from phasewise.study.overrides import key_of
from phasewise.study.schema import PhaseConfig

PLACES = {
    "study": "concerns the whole study: type it, or write it under study: in the file",
    "budget": "concerns the whole study: type it",
    "init_study": "concerns the whole study: type it, or write it at the top of the file",
    "hydra": "concerns the whole study: type it, or write it under hydra: in the file",
    "test": "concerns the whole study, which looks at the test data once, at its end: type it",
    "data.check": "shows how data are read, and trains nothing: type it without a study",
    "trainer.pause_after": "is what a phase's halving: {epochs: N} does",
}
"""Keys that say nothing of a phase, and where each belongs."""

PLACES_ANYWHERE = ("study", "hydra")
"""Those of them that are no keys of another application's own."""

FOLD = "data.fold"
FOLDS = "data.folds=5 'data.fold=${seed}' study.seeds=[0,1,2,3,4]"
"""How each configuration runs once on each fold."""

COMPARABLE = ("data.root",)
"""No computation, but the data that lie there are."""


def override_problems(spec: PhaseConfig, application: Application) -> list[Problem]:
    """What is wrong with the words of a phase, word by word."""
    own_runs = application.writes_records
    places = {key: PLACES[key] for key in (PLACES if own_runs else PLACES_ANYWHERE)}
    if f"{STUDY}." not in application.around:
        del places[STUDY]
    seeds = [*_repeats(spec, application.seed_key)]
    if spec.rerun is not None:
        return [*_problems("rerun.overrides", spec.rerun.overrides, places), *seeds]
    found = [*_problems("overrides", spec.overrides, places), *seeds]
    for number, words in enumerate(spec.combinations or [], 1):
        own = [*_problems(f"combinations, line {number}", words, places)]
        # each combination goes with all of the overrides
        found += own or [*_twice(f"combinations, line {number}", [*spec.overrides, *words])]
    return [*dict.fromkeys(found)]


def _repeats(spec: PhaseConfig, seed_key: str | None) -> Iterator[Problem]:
    """The key that repeats, where a phase names it and its trials would not heed it."""
    if seed_key is None:
        return
    words, what = spec.overrides if spec.search is not None else [], "searched"
    if spec.rerun is not None:
        words, what = spec.rerun.overrides, "chosen by rerun"
    for word in words:
        if _key(word) == seed_key:
            yield Problem(word, f"seeds are repeats and are not {what}; write seeds: [0,1,2]")
    if spec.halving is not None and spec.halving.key == seed_key:
        reason = "seeds are repeats; name what makes a run longer or larger"
        yield Problem(f"halving.key={seed_key}", reason)


def nothing_to_compare(swept: dict[str, list[str]], application: Application) -> list[Problem]:
    """Swept keys that change nothing of what is computed, and folds, which repeat; of another
    application's keys nobody knows."""
    if not application.writes_records:
        return []
    if FOLD in swept:
        reason = f"folds are repeats and do not compete; instead of it: {FOLDS}"
        return [Problem(f"{FOLD}={','.join(swept[FOLD])}", reason)]
    reason = "changes nothing that is computed, so there is nothing to compare; give it one value"
    return [
        Problem(f"{key}={','.join(values)}", reason)
        for key, values in swept.items()
        if _is_below(key, NOT_COMPUTATION) and not _is_below(key, COMPARABLE)
    ]


def _problems(where: str, words: Sequence[str], places: Mapping[str, str]) -> Iterator[Problem]:
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        for place, reason in places.items():
            if _is_below(key, (place,)):
                yield Problem(word, f"{reason} ({where})")
    yield from _twice(where, words)


def _twice(where: str, words: Sequence[str]) -> Iterator[Problem]:
    keys = Counter(_key(word) for word in words)
    for key, count in keys.items():
        if count > 1:
            given = " and ".join(word for word in words if _key(word) == key)
            reason = f"is given {count} times ({given}); one word has all its values: {key}=A,B"
            yield Problem(key, f"{reason} ({where})")


def _key(word: str) -> str:
    try:
        return key_of(parse_override(word))
    except HydraException:  # told where it is expanded
        return word


def _is_below(key: str, sections: Sequence[str]) -> bool:
    return any(key == it or key.startswith((f"{it}.", f"{it}/")) for it in sections)

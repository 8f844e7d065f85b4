"""Which words a phase cannot have: what concerns the study around it, or compares nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException

from phasewise.config.fingerprint import NOT_COMPUTATION
from phasewise.errors import Problem
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

COMPARABLE = ("data.root",)
"""No computation, but the data that lie there are."""


def override_problems(spec: PhaseConfig) -> list[Problem]:
    """What is wrong with the words of a phase, word by word."""
    if spec.rerun is not None:
        return [*_problems("rerun.overrides", spec.rerun.overrides)]
    found = [*_problems("overrides", spec.overrides)]
    for number, words in enumerate(spec.combinations or [], 1):
        own = [*_problems(f"combinations, line {number}", words)]
        # each combination goes with all of the overrides
        found += own or [*_twice(f"combinations, line {number}", [*spec.overrides, *words])]
    return [*dict.fromkeys(found)]


def nothing_to_compare(swept: dict[str, list[str]]) -> list[Problem]:
    """Swept keys that change nothing of what is computed."""
    reason = "changes nothing that is computed, so there is nothing to compare; give it one value"
    return [
        Problem(f"{key}={','.join(values)}", reason)
        for key, values in swept.items()
        if _is_below(key, NOT_COMPUTATION) and not _is_below(key, COMPARABLE)
    ]


def _problems(where: str, words: Sequence[str]) -> Iterator[Problem]:
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        for place, reason in PLACES.items():
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

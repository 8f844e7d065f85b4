"""Keys that a study has never varied, of those that its task says usually matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException

from phasewise.analysis.proposals.known import Known
from phasewise.analysis.proposals.proposal import Proposal, last_name
from phasewise.study.results import UNSET, typed
from phasewise.text import format_value

KEY = "task.worth_trying"
"""Of a config: a list of ``{overrides: KEY=VALUE,VALUE, source: WHERE IT IS SAID}``, the most
important first."""

MOST_AT_ONCE = 3
"""So many of them are proposed at a time; the next ones when these have been tried."""


@dataclass(frozen=True)
class _Hint:
    key: str
    words: tuple[str, ...]
    source: str


def untried(known: Known) -> tuple[list[Proposal], list[str]]:
    """A phase for each of the first ones, and which come after them."""
    found = []
    for hint in _hints(known.saved(KEY)):
        now = _now(known, hint.key)
        cells = tuple((word,) for word in hint.words if _value(word) != now)
        if known.varied(hint.key) or now == UNSET or not cells:
            continue
        reason = f"{hint.key} was never varied ({now}), and usually matters: {hint.source}"
        found.append(Proposal("untried", last_name(hint.key), cells, reason))
    rest = [one.typed() for one in found[MOST_AT_ONCE:]]
    told = [f"never varied either, and to come after these: {'; '.join(rest)}"] if rest else []
    return found[:MOST_AT_ONCE], told


def _hints(content: Any) -> Iterator[_Hint]:
    for one in content if isinstance(content, Sequence) and not isinstance(content, str) else ():
        if not isinstance(one, Mapping):
            continue
        words = [*_expanded(str(one.get("overrides", "")))]
        keys = {word.partition("=")[0] for word in words}
        if len(keys) == 1:
            yield _Hint(keys.pop(), tuple(words), str(one.get("source", "")))


def _expanded(text: str) -> Iterator[str]:
    """The single overrides of ``KEY=VALUE,VALUE``; none of what is not in Hydra's grammar."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        parsed = [OverridesParser.create().parse_override(text)]
        batches = BasicSweeper.split_arguments(parsed, None)
    except (HydraException, ValueError):
        return
    yield from (word for words in batches[0] for word in words)


def _value(word: str) -> Any:
    return typed(word.partition("=")[2])


def _now(known: Known, key: str) -> Any:
    """The value in force, as `typed` has it; lists and groups as their text."""
    value = known.saved(key)
    if value is None:
        return known.setting(key)
    return typed(format_value(value)) if isinstance(value, list) else known.setting(key)

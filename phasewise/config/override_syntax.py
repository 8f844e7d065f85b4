"""Words that Hydra's grammar cannot read: what is wrong with them, and what was probably meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from phasewise.errors import Problem

_PAIRS = {"[": "]", "{": "}", "(": ")"}
_COLON = re.compile(r"([+~]*[\w./@]+):(?=[^:])", re.ASCII)


def parse_words(
    words: Sequence[str], loader: ConfigLoader | None = None
) -> tuple[dict[str, Override], dict[str, HydraException]]:
    """The overrides by their words, and the errors of words that are none."""
    parser = OverridesParser.create(config_loader=loader)
    overrides: dict[str, Override] = {}
    errors: dict[str, HydraException] = {}
    for word in words:
        try:
            overrides[word] = parser.parse_rule(word, "override")
            overrides[word].config_loader = loader
        except HydraException as error:
            errors[word] = error
    return overrides, errors


def suggest_correction(words: Sequence[str], loader: ConfigLoader | None = None) -> Problem | None:
    """What to write instead of words of which Hydra cannot read all, where that can be told.

    ``a=1, 2``, ``a = 1`` and ``a=[x, y]`` are several words; ``a:1`` is how YAML writes it.
    """
    whole = _joined(words)
    meant = [_COLON.sub(r"\1=", word, count=1) if "=" not in word else word for word in whole]
    if meant == list(words) or parse_words(meant, loader)[1]:
        return None
    wrong = [i for i, word in enumerate(meant) if word not in words]
    reason = "an override has no spaces" if len(whole) < len(words) else "an override is KEY=VALUE"
    better = " ".join(meant[i] if _plain(meant[i]) else shlex.quote(meant[i]) for i in wrong)
    typed = [word for word in words if word not in meant]
    return Problem(" ".join(typed), f"{reason}; write {better}")


def _joined(words: Sequence[str]) -> list[str]:
    """The words without the spaces that can be no end of an override."""
    found: list[str] = []
    for word in words:
        goes_on = found and (_is_open(found[-1]) or word[:1] in ",=]})")
        if goes_on:
            found[-1] += word
        else:
            found.append(word)
    return found


def _is_open(word: str) -> bool:
    return word.endswith((",", "=", ":")) or any(
        word.count(left) > word.count(right) for left, right in _PAIRS.items()
    )


def _plain(word: str) -> bool:
    """Whether a study's file needs no quotes for it."""
    return not re.search(r"[\s'\"\\]", word)


def syntax_problem(word: str, error: Exception) -> str:
    """What is wrong with a word that is no override, and where."""
    key, equals, value = word.partition("=")
    if not equals:
        return "an override is KEY=VALUE"
    if re.search(",,|,$", value):
        return "a value is missing beside a comma"
    if ";" in value:
        return "several values have commas between them"
    cause = error.__cause__
    column = getattr(cause, "startIndex", None)  # of the lexer
    if column is None:
        column = getattr(getattr(cause, "offendingToken", None), "column", None)
    if column is None and (unexpected := re.search(r"input '(.+?)' expecting", str(error))):
        column = word.rfind(unexpected[1])
    column = len(word) if column is None else column
    place = f"cannot be read from character {column + 1} on, {word[column:]!r}"
    if column >= len(word):
        place = "ends too early"
    if column < len(key) + 1:
        return f"{place}; a key has no spaces, dashes or brackets"
    if value[:1] in ("[", "{"):
        return f"{place}; brackets, braces and quotes must be closed"
    text = QuotedString(value.strip("\"'"), Quote.double).with_quotes()
    return f"{place}; quote such a text: {shlex.quote(f'{key}={text}')}"

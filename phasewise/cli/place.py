"""Where a study lies whose settings somebody changed on the command line.

Its file names one directory. The same study with other settings gets one beside it, named by what
was typed; the same command always finds its own again, also where that is the file's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from phasewise.config.fingerprint import NOT_COMPUTATION
from phasewise.project import JOURNAL
from phasewise.records.content import read_json

AROUND = ("study", *(key for key in NOT_COMPUTATION if key != "init_study"))
"""Keys and sections that do not make it another study."""

LONGEST = 60
"""Characters of what was typed."""


def study_place(directory: Path, words: Sequence[str]) -> tuple[Path, str]:
    """The directory of a study, and what is to be said of it.

    Args:
        directory: as its file names it.
        words: the overrides as typed.
    """
    typed = _settings(words)
    own = _own(directory, typed)
    there = read_json(directory / JOURNAL)
    if not typed or there is None or _settings(_command(there)) == typed:
        found = own if typed and (own / JOURNAL).exists() else directory
        return found, ""
    before = " ".join(_settings(_command(there))) or "no settings"
    note = f"note: {directory} is this study with {before} typed; it goes to {own}"
    return own, "" if (own / JOURNAL).exists() else note


def _own(directory: Path, typed: Sequence[str]) -> Path:
    """A name that no study with other settings has: ``patience`` is a key of two sections."""
    text = _name(typed)
    short, whole = (
        directory.with_name(f"{directory.name}-{name}")
        for name in (text, f"{text}-{_digest(typed)}")
    )
    there = read_json(short / JOURNAL)
    taken = there is not None and _settings(_command(there)) != typed
    return whole if taken or (whole / JOURNAL).exists() else short


def _command(journal: dict[str, object]) -> list[str]:
    words = journal.get("command")
    return [str(word) for word in words] if isinstance(words, list) else []


def _settings(words: Sequence[str]) -> list[str]:
    """The words that change what is computed, in the order of their keys."""
    found = [word.lstrip("+") for word in words]
    return sorted(word for word in found if not _is_around(word.partition("=")[0].lstrip("~")))


def _is_around(key: str) -> bool:
    return any(key == it or key.startswith((f"{it}.", f"{it}/")) for it in AROUND)


def _name(words: Sequence[str]) -> str:
    """``image_size-256``: last part of each key and value; no sign that Hydra or a shell reads."""
    texts = []
    for word in words:
        key, _, value = word.partition("=")
        texts.append(f"{key.rpartition('.')[2]}-{value}")
    text = "-".join(texts)
    safe = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)
    if safe == text and len(safe) <= LONGEST:
        return safe
    return f"{safe[:LONGEST].rstrip('_-.')}-{_digest(words)}"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:6]

"""The commands that README.md and the pages tell people to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = ("README.md", "outputs/README.md", "CONTRIBUTING.md", "docs/*.md")

RUN_ELSEWHERE = {"docs/your-own.md": "tests/test_your_own.py runs it with the code that it needs"}
"""Pages that are not looked at here, and why."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(python [^`]+)`")


class Command(NamedTuple):
    """A command, its words as a shell makes them, and the page that has it."""

    page: str
    words: tuple[str, ...]

    @property
    def script(self) -> str:
        """``train.py`` of ``python train.py``; of other programs their name."""
        return self.words[1] if self.words[0] == "python" else self.words[0]

    @property
    def arguments(self) -> list[str]:
        """What follows."""
        return list(self.words[2 if self.words[0] == "python" else 1 :])

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """All of them, in the order of the pages: those in ``bash`` blocks, and ``python ...`` in the
    text, whose ``...`` are left out."""
    paths = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    pages = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return [
        Command(page, tuple(words))
        for page, path in pages.items()
        if page not in RUN_ELSEWHERE
        for words in _commands(path.read_text(encoding="utf-8"))
    ]


def example(page: str, language: str = "yaml") -> str:
    """The one block of a page in a language; in YAML it is a study."""
    (text,) = (t for kind, t in _BLOCK.findall((ROOT / page).read_text()) if kind == language)
    return str(text)


def write_named_files(folder: Path) -> None:
    """Blocks of the pages that begin with the place of their file: ``# own/study/fine.yaml``."""
    for page in (path for pattern in PAGES for path in ROOT.glob(pattern)):
        for _, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            if found := re.match(r"# (own/[\w/]+\.yaml)\n", block):
                place = folder / found[1]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(block.removeprefix(found[0]))


def _commands(text: str) -> Iterator[list[str]]:
    for kind, block in _BLOCK.findall(text):
        if kind == "bash":
            yield from _lines(block)
    for span in _SPAN.findall(_BLOCK.sub("", text)):
        yield [word for word in shlex.split(span) if word != "..."]


def _lines(block: str) -> Iterator[list[str]]:
    """Commands of a block, with the values of variables that it sets."""
    known: dict[str, str] = {}
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if len(words) == 1 and (found := re.fullmatch(r"([A-Z]+)=(.*)", words[0], re.DOTALL)):
            known[found[1]] = found[2]
        elif words:
            yield [part for word in words for part in _expanded(word, known)]


def _expanded(word: str, known: dict[str, str]) -> list[str]:
    return shlex.split(known[word[1:]]) if word.startswith("$") else [word]


def value(words: list[str], key: str) -> str | None:
    """What ``key=`` says on a command line."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return found[-1] if found else None


def task_of(words: list[str]) -> str:
    """The task of a command of ``train.py``."""
    if (task := value(words, "task")) is not None:
        return task
    study = value(words, "study")
    if study is None:
        return "multitask"
    file = ROOT / "conf" / "study" / f"{study}.yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else example("README.md")
    found = re.search(r"override /task: (\w+)", text)
    assert found, study
    return found[1]


def place_files(words: list[str], folder: Path) -> None:
    """Make what a command reads where it is not there: an empty folder of data, a file of weights
    that nobody opens."""
    for key in ("data.root", "model.pretrained"):
        name = value(words, key)
        if name is None or name in ("true", "false"):
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if key == "data.root":
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"weights")

"""Commands that are printed, for people to paste into their shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from phasewise.project import ROOT


def shell_command(program: str, words: Sequence[str]) -> str:
    """A call of an entry script; its words are quoted for the shell."""
    return shlex.join(["python", program, *words])


def script(name: str) -> str:
    """An entry script with its place, if that is not the present folder and it is there."""
    return relative_path(ROOT / name) if (ROOT / name).is_file() else name


def path_override(key: str, path: Path) -> str:
    """An override that sets a path, quoted for Hydra, whose grammar knows commas and brackets."""
    text = relative_path(path)
    plain = re.fullmatch(r"[\w./+-]+", text, re.ASCII)
    return f"{key}={text if plain else quoted(text)}"


def quoted(text: str) -> str:
    """A text in the quotes of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def relative_path(path: Path) -> str:
    """A path as seen from here, unless that leads up and down again."""
    near = path.absolute()
    return str(near.relative_to(Path.cwd()) if near.is_relative_to(Path.cwd()) else near)

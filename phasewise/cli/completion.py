"""Shell completion: Hydra's, silent while somebody types, and for no other script than ours."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from phasewise.errors import UserError

COMMANDS = ("install", "uninstall", "query")
LOOK = 'grep "@hydra.main" $file_path -q\n'
"""A line of Hydra's function for bash, which then calls any script, whatever was found."""

LOOK_AND_LEAVE = 'grep -q "phasewise.cli.main import main" "$file_path" || return\n'


@contextmanager
def completing(words: Sequence[str]) -> Iterator[None]:
    """Around Hydra's answer to ``--shell-completion``; exits with 1 where it has none.

    Args:
        words: of the command line, without flags: ``install=bash``.

    Raises:
        UserError: they are not one command.
    """
    command, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if command not in COMMANDS or not shell:
        allowed = ", ".join(f"{it}=SHELL" for it in COMMANDS)
        raise UserError(f"--shell-completion takes one of {allowed}; SHELL is bash, zsh or fish")
    if command == "query":
        os.environ["COMP_LINE"] = _plain(os.environ.get("COMP_LINE", ""))
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            try:
                yield
            except Exception:
                sys.exit(1)
        return
    with redirect_stdout(StringIO()) as output:
        yield
    print(output.getvalue().replace(LOOK, LOOK_AND_LEAVE), end="")


def _plain(line: str) -> str:
    """The line as Hydra's completion can read it: no quotes, no words that are no overrides yet."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is open
        words = line.split()
    if line.endswith(" "):
        words.append("")
    *before, last = words[2:] or [""]
    kept = [it for it in before if it in ("-m", "--multirun") or _is_override(it)]
    return " ".join(["python", "train.py", *kept, last])


def _is_override(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return " " not in word

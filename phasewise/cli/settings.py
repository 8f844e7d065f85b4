"""``KEY=VALUE`` words of the scripts that have settings of their own instead of a config tree.

Paths are taken as they are: spaces, commas, brackets and letters of any language need no quotes but
the shell's. What a key means stands in its field's description. No torch here.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from phasewise.config.fields import Node
from phasewise.config.help import did_you_mean, given_twice, no_such_key, problems_of, show
from phasewise.errors import Problem, UserError

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")

Settings = TypeVar("Settings", bound=Node)


def parse(
    kind: type[Settings],
    words: Sequence[str],
    *,
    script: str,
    paths: Collection[str],
    sections: Collection[str] = (),
) -> tuple[Settings, list[str]]:
    """The settings that a command line asks for.

    Args:
        kind: what may be typed; a field without a default must be.
        words: of the command line.
        script: its name, for the message.
        paths: fields that are taken as they are.
        sections: of the config, whose words are none of these settings: ``data=``, ``data.KEY=``.

    Returns:
        The settings, and the words of ``sections``.

    Raises:
        UserError: everything that is wrong with the others.
    """
    fields = kind.model_fields
    typed: dict[str, Any] = {}
    others, problems = [], given_twice(words)
    for word in words:
        key, equals, text = word.partition("=")
        if key.partition(".")[0] in sections:
            others.append(word)
        elif not equals or word.startswith("-"):
            problems.append(Problem(word, _no_setting(word, fields, next(iter(paths)))))
        elif key not in fields:
            problems.append(no_such_key(key, [*fields, *sections]))
        else:
            typed[key] = _value(key, text, paths)
    if not problems:
        missing = [key for key, field in fields.items() if field.is_required() and key not in typed]
        problems = [Problem(key, f"must be given: {key}=PATH") for key in missing]
    if not problems:
        try:
            return kind.model_validate(typed), others
        except ValidationError as error:
            problems = problems_of(error, typed)
    advice = f"`python {script} --help` lists every key, its default and its values"
    raise UserError("settings cannot be used" if len(problems) > 1 else "", problems, advice)


def _no_setting(word: str, keys: Collection[str], first: str) -> str:
    if word.startswith("-"):
        return "no such flag; settings are KEY=VALUE, without dashes"
    if Path(word).exists():
        return f"a setting is KEY=VALUE; did you mean {first}={word}?"
    return f"a setting is KEY=VALUE{did_you_mean(word, keys)}"


def _value(key: str, text: str, paths: Collection[str]) -> Any:
    """What a text stands for: a path as it is, else a number, a switch, null or a word."""
    if key in paths:
        return None if text == "null" else text
    try:
        if _EXPONENT.fullmatch(text):  # to YAML 1e-4 is a text
            return float(text)
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def help_text(
    kind: type[Node], *, script: str, about: str, examples: Mapping[str, str], more: str = ""
) -> str:
    """The whole of ``--help``.

    Args:
        kind: the settings.
        script: its name.
        about: what it does.
        examples: words, and what they do.
        more: what comes after the settings.
    """
    width = shutil.get_terminal_size((100, 24)).columns
    required = [f"{key}=PATH" for key, field in kind.model_fields.items() if field.is_required()]
    lines = [f"usage: python {script} {' '.join(required)} [KEY=VALUE ...]", ""]
    lines += [*textwrap.wrap(about, width), "", "examples:"]
    for words, what in examples.items():
        lines += [f"  python {script} {words}", f"      {what}"]
    lines += ["", "settings and their defaults:"]
    for key, field in kind.model_fields.items():
        default = "PATH" if field.is_required() else show(field.default)
        described = (field.description or "") + " (must be given)" * field.is_required()
        lines.append(f"  {key}={default}")
        lines += textwrap.wrap(described, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([*lines, *(["", *textwrap.wrap(more, width)] if more else [])])

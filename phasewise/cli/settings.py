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
from typing import Any, ClassVar, Self

import yaml
from pydantic import ValidationError

from phasewise.config.fields import Node
from phasewise.config.help import did_you_mean, given_twice, no_such_key, problems_of
from phasewise.errors import Problem, UserError
from phasewise.text import format_value

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class ScriptSettings(Node):
    """What may be typed after a script's name; a field without a default must be.

    Attributes:
        SCRIPT: its name.
        ABOUT: what it does.
        EXAMPLES: words, and what they do.
        MORE: what comes after the settings in ``--help``.
        PATHS: fields that are taken as they are.
        SECTIONS: of the config, whose words are none of these settings: ``data=``, ``data.KEY=``.
    """

    SCRIPT: ClassVar[str]
    ABOUT: ClassVar[str]
    EXAMPLES: ClassVar[Mapping[str, str]]
    MORE: ClassVar[str] = ""
    PATHS: ClassVar[Sequence[str]]
    SECTIONS: ClassVar[Collection[str]] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> tuple[Self, list[str]]:
        """The settings that a command line asks for; ``model_fields_set`` tells which were typed.

        Returns:
            The settings, and the words of ``SECTIONS``.

        Raises:
            UserError: everything that is wrong with the others.
        """
        fields = cls.model_fields
        typed: dict[str, Any] = {}
        others, problems = [], given_twice(words)
        for word in words:
            key, equals, text = word.partition("=")
            if key.partition(".")[0] in cls.SECTIONS:
                others.append(word)
            elif not equals or word.startswith("-"):
                problems.append(Problem(word, _no_setting(word, fields, cls.PATHS[0])))
            elif key not in fields:
                problems.append(no_such_key(key, [*fields, *cls.SECTIONS]))
            else:
                typed[key] = _value(key, text, cls.PATHS)
        if not problems:
            missing = [key for key in fields if fields[key].is_required() and key not in typed]
            problems = [Problem(key, f"must be given: {key}=PATH") for key in missing]
        if not problems:
            try:
                return cls.model_validate(typed), others
            except ValidationError as error:
                problems = problems_of(error, typed)
        advice = f"`python {cls.SCRIPT} --help` lists every key, its default and its values"
        raise UserError("settings cannot be used" if len(problems) > 1 else "", problems, advice)

    @classmethod
    def help_text(cls) -> str:
        """The whole of ``--help``."""
        width = shutil.get_terminal_size((100, 24)).columns
        fields = cls.model_fields
        required = [f"{key}=PATH" for key, field in fields.items() if field.is_required()]
        lines = [f"usage: python {cls.SCRIPT} {' '.join(required)} [KEY=VALUE ...]", ""]
        lines += [*textwrap.wrap(cls.ABOUT, width), "", "examples:"]
        for words, what in cls.EXAMPLES.items():
            lines += [f"  python {cls.SCRIPT} {words}", f"      {what}"]
        lines += ["", "settings and their defaults:"]
        for key, field in fields.items():
            default = "PATH" if field.is_required() else format_value(field.default)
            described = (field.description or "") + " (must be given)" * field.is_required()
            lines.append(f"  {key}={default}")
            lines += [f"      {line}" for line in textwrap.wrap(described, width - 6)]
        more = ["", *textwrap.wrap(cls.MORE, width)] if cls.MORE else []
        return "\n".join([*lines, *more])


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

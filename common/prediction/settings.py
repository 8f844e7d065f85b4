"""The settings of ``predict.py``: what may be typed, what it means, and what is wrong with it.

Unlike those of a training they are no config tree, and paths are taken as they are: spaces,
brackets and letters of any language need no quotes but the shell's. No torch here.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from common.errors import Problem, UserError, collect
from common.fields import Count, CountOrNull, Flag, Node, Text, told, wrong
from common.help import nearest, no_such_key, problems_of, show

ADVICE = "`python predict.py --help` lists every key, its default and its values"
PATHS = ("checkpoint", "source", "gallery", "output")
"""Keys whose values are paths: whatever is typed."""

Share = Annotated[float, Field(ge=0, lt=1), told("must be a number in [0, 1)")]
WholeOrNull = Annotated[int | None, Field(ge=0), told("must be a whole number >= 0 or null")]

EXAMPLES = (
    ("checkpoint=outputs/localization/RUN source=photos", "a run's best network, a folder"),
    ("checkpoint=STUDY source='photos/**/*.jpg'", "the winner of a study, a pattern"),
    ("checkpoint=[RUN1,RUN2,RUN3] source=a.png flip=true", "several networks and mirror images"),
    ("checkpoint=RUN source=large.tif tile=512 overlap=64", "segmentation of a large image"),
    ("checkpoint=RUN source=queries gallery=images", "re-identification"),
)


class Settings(Node):
    """What ``predict.py`` is told."""

    checkpoint: Annotated[list[Text], Field(min_length=1)] = Field(
        description="a checkpoint, or the directory of a run (its best) or of a study (its winner);"
        " [a,b,c] = several as one: their probabilities or boxes are averaged"
    )
    source: Text = Field(
        description="an image, a folder (all images below it), or a pattern such as 'a/**/*.jpg'"
    )
    output: Text | None = Field(
        default=None,
        description="folder of the results; null = outputs/predictions/ and the source's name",
    )
    gallery: Text | None = Field(
        default=None,
        description="re-identification: where to look for the source's images; as source",
    )
    top: Count = Field(default=10, description="re-identification: length of the ranked lists")
    score: Share = Field(
        default=0.3, description="multitask: boxes of lower confidence are left out, 0 <= score < 1"
    )
    tile: CountOrNull = Field(
        default=None,
        description="segmentation: look at squares of so many pixels, each scaled to the network's "
        "image_size; null = as in training: data.tile_size, else the image as a whole",
    )
    overlap: WholeOrNull = Field(
        default=None,
        description="segmentation: pixels that neighbouring squares share, within which one is "
        "blended into the other; null = an eighth of the square",
    )
    flip: Flag = Field(
        default=False, description="look at each image's mirror image too and average: true, false"
    )
    batch_size: Count = Field(default=8, description="images (or squares) at once")
    pictures: Literal["jpg", "png", "none"] = Field(
        default="jpg",
        description="format of the pictures with the results drawn in: jpg, png, none",
    )
    on_bad: Literal["error", "skip"] = Field(
        default="error",
        description="images that cannot be read: error (list them and write nothing), skip (leave "
        "them out and list them at the end)",
    )
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        default="auto", description="where the network runs: auto, cpu, gpu, mps"
    )

    @model_validator(mode="after")
    def _overlap_below_tile(self) -> Settings:
        if self.overlap is not None and self.tile is not None and self.overlap >= self.tile:
            raise wrong(f"must be smaller than tile={self.tile}", "overlap")
        return self


def parse(words: Sequence[str]) -> tuple[Settings, set[str]]:
    """The settings that a command line asks for, and which of them were typed.

    Raises:
        UserError: everything that is wrong with the words.
    """
    keys = list(Settings.model_fields)
    typed: dict[str, Any] = {}
    problems = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            problems.append(Problem(word, _no_setting(word, keys)))
        elif key not in keys:
            problems.append(no_such_key(key, keys))
        elif key in typed:
            problems.append(Problem(word, f"{key} is given twice{_lists(key)}"))
        else:
            typed[key] = _value(key, text)
    required = [key for key, field in Settings.model_fields.items() if field.is_required()]
    if not problems:
        problems = [
            Problem(key, f"must be given: {key}=PATH") for key in required if key not in typed
        ]
    if not problems:
        try:
            return Settings.model_validate(typed), set(typed)
        except ValidationError as error:
            problems = problems_of(error, typed)
    if len(problems) == 1:
        raise UserError(f"{problems[0]}\n{ADVICE}")
    raise collect("settings cannot be used", problems, ADVICE)


def _no_setting(word: str, keys: Sequence[str]) -> str:
    if word.startswith("-"):
        return "no such flag; settings are KEY=VALUE, without dashes"
    if Path(word).exists():
        return f"a setting is KEY=VALUE; did you mean source={word}?"
    near = nearest(word, keys)
    return "a setting is KEY=VALUE" + (f"; did you mean {near}=VALUE?" if near else "")


def _lists(key: str) -> str:
    return "; several are checkpoint=[a,b]" * (key == "checkpoint")


def _value(key: str, text: str) -> Any:
    """What a text stands for: a path as it is, else a number, a switch, null or a word."""
    if key == "checkpoint":
        several = text.startswith("[") and text.endswith("]") and not Path(text).exists()
        return [part.strip() for part in text[1:-1].split(",")] if several else [text]
    if key in PATHS:
        return None if text == "null" else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def help_text() -> str:
    """The whole of ``--help``."""
    width = shutil.get_terminal_size((100, 24)).columns
    lines = [
        "usage: python predict.py checkpoint=PATH source=PATH [KEY=VALUE ...]",
        "",
        *textwrap.wrap(
            "Applies a trained network to images of any size. Writes predictions.json, tables, "
            "masks, and pictures with the results drawn in; all in pixels of the upright image.",
            width,
        ),
        "",
        "examples:",
    ]
    for words, what in EXAMPLES:
        lines += [f"  python predict.py {words}", f"      {what}"]
    lines += ["", "settings and their defaults:"]
    for key, field in Settings.model_fields.items():
        default = "PATH" if field.is_required() else show(field.default)
        about = (field.description or "") + " (must be given)" * field.is_required()
        lines.append(f"  {key}={default}")
        lines += textwrap.wrap(about, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)

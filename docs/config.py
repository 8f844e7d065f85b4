"""Makes docs/config.md, all keys of the config, from conf/ and the schemas: ``make docs``.

Comments come from the files in conf/, defaults too; which values a key takes, its schema is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from phasewise.config.augment import AUGMENTATIONS, Parameter
from phasewise.config.choices import file_for, group_of, tasks_of
from phasewise.config.defaults import composed
from phasewise.config.help import MISSING, config_groups, file_entries, flatten, problems_of
from phasewise.config.schema import NOT_OF_A_RUN, RunConfig
from phasewise.project import CONF, project_class
from phasewise.study.schema import StudyConfig
from phasewise.text import format_value

HEAD = """\
# All keys

Made from `conf/` and the schemas by `make docs`; `--help` says the same of a single choice, e.g.
`python train.py task=reid data=veri --help`. A key is typed as `KEY=VALUE`, whatever file its
default stands in; after `-m` it takes several, `KEY=A,B`. [Studies](studies.md) say more of
`study`, [your own](your-own.md) how to add a key, a choice or a task.

- [Files to choose from](#files-to-choose-from)
- [What every task has](#what-every-task-has): [transforms](#transforms), [optimizer](#optimizer),
  [scheduler](#scheduler), [trainer](#trainer), [callbacks](#callbacks)
"""
KEYS = ("key", "default", "values", "meaning")
GROUPS = ("optimizer", "scheduler", "trainer", "callbacks")
"""Config groups that every task has."""

GENERAL = "general"
NOTHING = object()
"""A value that no key takes."""

VAGUE = ("a text", "cannot be used")
"""Answers of a schema that say less than the comment."""

INSTEAD = {"data.augment": "names of [transforms](#transforms), or `{name: {setting: value}}`"}

Rows = list[Sequence[str]]


def page() -> str:
    """The text of docs/config.md."""
    groups = config_groups(CONF)
    parts = [HEAD.rstrip(), *(f"- [task={task}](#task{task})" for task in groups["task"])]
    parts += ["", "## Files to choose from", *_choices(groups)]
    parts += ["", "## What every task has", *_shared(), *_transforms()]
    for group in GROUPS:
        parts += ["", f"### {group}", *_group(group, groups[group])]
    for task, about in groups["task"].items():
        own = [name for name in groups["data"] if task in _tasks_of(name)]
        parts += ["", f"## task={task}", "", about, *_task(task), *_data_sets(task, own)]
    return "\n".join(parts) + "\n"


def _choices(groups: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    rows: Rows = []
    for group, options in groups.items():
        for name, about in options.items():
            tasks = " or ".join(f"`task={it}`" for it in _tasks_of(name)) if group == "data" else ""
            rows.append((f"`{group}={name}`", _safe(about) + (f" ({tasks})" if tasks else "")))
    yield from _table(("file", "what it is"), rows)


def _shared() -> Iterator[str]:
    values = _schema_says("multitask") | _study_says()
    yield from _sections(_keys(CONF / "config.yaml"), values)


def _transforms() -> Iterator[str]:
    yield from ("", "### transforms", "")
    yield "Of training images: `data.augment=[flip,rotate]`, with other settings than these"
    yield "`'data.augment=[flip,{rotate:{degrees:20}}]'`."
    rows = []
    for name, it in AUGMENTATIONS.items():
        told = "; ".join(_setting(key, p) for key, p in it.parameters.items())
        rows.append((f"`{name}`", _safe(it.doc), told))
    yield from _table(("name", "what it does", "settings"), rows)


def _setting(key: str, parameter: Parameter) -> str:
    low, high = parameter.low, parameter.high
    return f"`{key}={parameter.default:.4g}` {_safe(parameter.doc)} ({low:g} to {high:g})"


def _group(group: str, options: Iterable[str]) -> Iterator[str]:
    rows: Rows = []
    for name in options:
        values = _schema_says("multitask", f"{group}={name}")
        keys = _keys(CONF / group / f"{name}.yaml")
        rows += [(f"`{group}={name}`", *row) for row in _rows(keys, values)]
    yield from _table((group, *KEYS), rows)


def _task(task: str) -> Iterator[str]:
    file = CONF / "task" / f"{task}.yaml"
    keys = {key: it for key, it in _keys(file).items() if not key.startswith("task.")}
    chosen, known = [], _known()
    for item in _content(file).get("defaults", []):
        ((word, name),) = item.items()
        chosen.append(f"{word.split('/')[-1]}={name}")
    other = [*chosen, *_words(keys, known)]
    yield from ("", f"Other defaults: {_code(other)}")
    metrics = _schema(task).METRICS
    told = ", ".join(
        f"`{name}`" + " (less is better)" * (metrics[name] == "min") for name in metrics
    )
    yield from ("", f"Metrics for `objective.metric`: {told}")
    own = {key: it for key, it in keys.items() if key not in known}
    yield from _sections(own, _schema_says(task))
    yield from ("", "### worth trying", "")
    yield "`task.worth_trying`, the most important first: what `report.py --propose` and"
    yield "`study.follow_up` try of these keys where a study has varied none of their values."
    hints = _config(f"task={task}")["task"]["worth_trying"]
    rows = [(f"`{one['overrides']}`", _safe(one["source"])) for one in hints]
    yield from _table(("values", "who says so"), rows)


def _data_sets(task: str, names: Iterable[str]) -> Iterator[str]:
    own = _known() | _keys(CONF / "task" / f"{task}.yaml").keys()
    rows: Rows = []
    for name in names:
        file = CONF / "data" / f"{name}.yaml"
        keys = _keys(file_for(file, task))
        values = _schema_says(task, f"data={name}")
        found = _rows({key: it for key, it in keys.items() if key not in own}, values)
        rows += [(f"`data={name}`", *row) for row in found]
        if other := _words(keys, own):
            rows.append((f"`data={name}`", "", "", "", f"other defaults: {_code(other)}"))
    if rows:
        yield from ("", "### data sets", *_table(("data", *KEYS), rows))


def _keys(file: Path) -> dict[str, tuple[Any, str]]:
    """Default and comment of the keys of a file that a person types."""
    kept = {key: it for key, it in _content(file).items() if key not in ("defaults", "hydra")}
    entries = file_entries(file)
    group = "" if any(key.partition(".")[0] in kept for key in entries) else f"{group_of(file)}."
    leaves = {f"{group}{key}": value for key, value in flatten(kept).items()}
    return {
        key: (value, entries[key].comment)
        for key, value in leaves.items()
        if key in entries and not key.endswith("_target_")
    }


def _content(file: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(content, dict)
    return {str(key): node for key, node in content.items()}


@cache
def _known() -> frozenset[str]:
    """The keys that every task has."""
    files = [CONF / "config.yaml", *(f for group in GROUPS for f in (CONF / group).glob("*.yaml"))]
    return frozenset(key for file in files for key in _keys(file))


def _words(keys: Mapping[str, tuple[Any, str]], known: Iterable[str]) -> list[str]:
    """What a file sets of the keys that others have explained."""
    return [f"{key}={format_value(keys[key][0])}" for key in keys if key in known]


def _sections(keys: Mapping[str, tuple[Any, str]], values: Mapping[str, str]) -> Iterator[str]:
    """A table for each section of the config."""
    for name in dict.fromkeys(map(_section, keys)):
        own = {key: it for key, it in keys.items() if _section(key) == name}
        yield from ("", f"### {name}", *_table(KEYS, _rows(own, values)))


def _section(key: str) -> str:
    return key.partition(".")[0] if "." in key else GENERAL


def _rows(keys: Mapping[str, tuple[Any, str]], values: Mapping[str, str]) -> Rows:
    return [
        (
            f"`{key}`",
            "must be given" if default == MISSING else f"`{format_value(default)}`",
            INSTEAD.get(key) or _safe(values.get(key, "")),
            _safe(_beyond(comment, values.get(key, ""))),
        )
        for key, (default, comment) in keys.items()
        if comment
    ]


def _beyond(comment: str, values: str) -> str:
    """A comment without the values at its end, where the table has them already."""
    for tail in (values, values.replace(" or ", ", ")):
        comment = comment.removesuffix(tail) if tail else comment
    return comment.rstrip(",: ")


@cache
def _schema(task: str) -> type[RunConfig]:
    schema = project_class(_config(f"task={task}")["task"]["schema"], RunConfig)
    assert schema is not None
    return schema


@cache
def _schema_says(*words: str) -> dict[str, str]:
    """The values of each key of a run, for a task and other choices."""
    task, *choices = words
    config = _config(f"task={task}", *choices)
    data = {key: node for key, node in config.items() if key not in NOT_OF_A_RUN}
    return _says(_schema(task), data)


def _study_says() -> dict[str, str]:
    section = _config("task=multitask")["study"]
    return {f"study.{key}": text for key, text in _says(StudyConfig, section).items()}


@cache
def _config(*words: str) -> dict[str, Any]:
    return composed(words)[0]


def _says(schema: type[BaseModel], data: Mapping[str, Any]) -> dict[str, str]:
    """What a schema answers to a value that cannot be, by key."""
    found = {}
    for key in flatten(dict(data)):
        changed = deepcopy(dict(data))
        *sections, last = key.split(".")
        node = changed
        for section in sections:
            node = node[section]
        node[last] = NOTHING
        try:
            schema.model_validate(changed)
        except ValidationError as error:
            reasons = {p.file.partition("=")[0]: p.reason for p in problems_of(error, changed)}
            text = re.sub(r"^(must be|not one of) ", "", reasons.get(key, ""))
            found[key] = "" if text in VAGUE else text
    return found


def _tasks_of(data: str) -> list[str]:
    """The tasks that read a data set."""
    return tasks_of(CONF / "data" / f"{data}.yaml", config_groups(CONF)["task"])


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _safe(text: str) -> str:
    """A comment as Markdown: what would be markup there is text."""
    return re.sub(r"[|*]|<(?=\S)|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell for cell, _ in zip_longest(cells, head, fillvalue="")) + " |"


if __name__ == "__main__":
    print(page(), end="")

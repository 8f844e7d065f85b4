"""Explains the configuration: key comments, ``--help``, and the nearest match of a wrong word.

Everything said about a key is read from the comment beside it in ``conf/``, so that help
and configuration cannot drift apart. Imports neither torch nor pydantic: it must be quick.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from phasewise.config.choices import file_for, group_of, targets, tasks_of
from phasewise.errors import Problem, UserError
from phasewise.text import format_value

if TYPE_CHECKING:
    from pydantic import ValidationError

ADVICE = "`python train.py --help` lists every key, its default and its values"
FIRST_SECTIONS = ("task", "data", "model", "loss", "evaluation", "optimizer", "scheduler")
GLOBAL = "@package _global_"
MISSING = "???"
KEY = "<KEY>"
"""Stands for the key in what a validator says, which does not know where its section is."""
KEY_COLUMN = 44
"""Widest `key=default` (characters) that the comments of a section are aligned to."""

_EXAMPLE = re.compile(r"^#   \S+\.py(.*) # (.*)$", re.MULTILINE)


class Entry(NamedTuple):
    """What a YAML file says about one key."""

    comment: str
    required: bool


def settings_error(problems: Sequence[Problem]) -> UserError:
    """One message for everything that is wrong with a command line or a config."""
    head = "settings cannot be used" if len(problems) > 1 else ""
    return UserError(head, problems, ADVICE)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values of the leaves; a list is one leaf."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def nearest(word: Any, options: Iterable[str]) -> str | None:
    """The option that was probably meant."""
    near = get_close_matches(str(word), list(options), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: Any, options: Iterable[str]) -> str:
    """``"; did you mean X?"``, or nothing where no option is near."""
    near = nearest(word, options)
    return f"; did you mean {near}?" if near else ""


def not_one_of(value: Any, options: Iterable[str]) -> str:
    """``"not one of a, b, c; did you mean b?"``"""
    options = list(options)
    near = did_you_mean("none" if value in (None, "null") else format_value(value), options)
    return f"not one of {', '.join(options)}{near}"


def nearest_key(key: str, keys: Iterable[str]) -> str | None:
    """The key that was probably meant: first in the same section, then of the same last name."""
    head, _, last = key.replace("/", ".").rpartition(".")
    lasts = {name: name.rpartition(".")[2] for name in keys}
    siblings = [name for name in lasts if name.rpartition(".")[0] == head]
    near = get_close_matches(last, [lasts[name] for name in siblings], n=1, cutoff=0.6)
    if near:
        return f"{head}.{near[0]}" if head else near[0]
    for near in ([last], get_close_matches(last, lasts.values(), n=1, cutoff=0.7)):
        same = [name for name in lasts if lasts[name] in near]
        if same:
            return max(same, key=lambda name: SequenceMatcher(a=key, b=name).ratio())
    return None


def no_such_key(key: str, keys: Iterable[str]) -> Problem:
    """What to say about a key that does not exist, given those that do."""
    typed = [name for name in keys if not name.endswith("_target_")]
    near = nearest_key(key, typed)
    if near is not None:
        return Problem(key, f"no such key; did you mean {near}?")
    head = key.rpartition(".")[0] + "."
    siblings = [name.removeprefix(head) for name in typed if name.startswith(head)]
    return Problem(
        key, "no such key" + (f"; {head[:-1]} has {', '.join(siblings)}" * bool(siblings))
    )


def given_twice(words: Sequence[str]) -> list[Problem]:
    """Keys that a command line has twice, of which Hydra silently takes the last."""
    first: dict[str, str] = {}
    problems = []
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key == word:
            continue  # no override, which is told elsewhere
        if key in first:
            reason = f"{key} is given twice, first as {first[key]}; leave one of them out"
            problems.append(Problem(word, reason))
        first.setdefault(key, word)
    return problems


def problems_of(error: ValidationError, data: dict[str, Any]) -> list[Problem]:
    """Pydantic's errors as lines about keys that a person typed."""
    problems = []
    for item in error.errors(include_url=False):
        context = item.get("ctx", {})
        inner = (context["key"],) if context.get("key") else ()
        key, value = _locate((*item["loc"], *inner), data)
        typed = key if isinstance(value, dict) else f"{key}={format_value(value)}"
        match item["type"]:
            case "message":
                problems.append(Problem(typed, context["text"].replace(KEY, key)))
            case "problems":
                problems += context["problems"]
            case "literal_error":
                options = re.findall(r"'([^']*)'|\b(True|False|None|\d+)\b", context["expected"])
                names = [
                    name or constant.lower().replace("none", "null") for name, constant in options
                ]
                problems.append(Problem(typed, not_one_of(value, names)))
            case "extra_forbidden":
                problems.append(no_such_key(key, [name for name in flatten(data) if name != key]))
            case "missing":
                problems.append(must_be_given(key))
            case "model_type":
                reason = f"is a section; set a key of it, e.g. {key}.KEY=VALUE"
                problems.append(Problem(typed, reason))
            case "list_type":
                problems.append(Problem(typed, "must be a list, e.g. [A, B]"))
            case "dict_type":
                problems.append(Problem(typed, "must be keys with their values, e.g. {A: B}"))
            case _:
                problems.append(Problem(typed, "cannot be used"))
    return problems


def must_be_given(key: str) -> Problem:
    """What to say about a key without a value."""
    return Problem(key, f"must be given, e.g. {key}={'PATH' if key.endswith('root') else 'VALUE'}")


def _locate(loc: tuple[Any, ...], data: dict[str, Any]) -> tuple[str, Any]:
    """Dotted key and value of an error, without the union members that pydantic names too."""
    key = ""
    node: Any = data
    loc = tuple(part for part in loc if "[" not in str(part))  # pydantic's own: `[key]`
    for i, part in enumerate(loc):
        found = part in node if isinstance(node, dict) else False
        following = loc[i + 1] if i + 1 < len(loc) else None
        if found and not isinstance(node[part], dict) and following in node:
            continue  # a member that is called like a key beside the one it is about
        if found or (i == len(loc) - 1 and isinstance(node, dict)):
            key = f"{key}.{part}" if key else str(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and isinstance(node[part], dict):
            key, node = f"{key}.{part}", node[part]  # one of several sections
    return key, node


def file_entries(path: Path) -> dict[str, Entry]:
    """Comments of one YAML file by dotted key, under the package that Hydra puts it in.

    A key's comment stands behind its value on the same line. The package is the config group,
    unless the file says ``# @package _global_`` or lies at the root of the tree.
    """
    text = path.read_text(encoding="utf-8")
    root = path.with_name("config.yaml").exists() or text.startswith(f"# {GLOBAL}")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return {}
    entries: dict[str, Entry] = {}
    for key, entry in _walk(node, "" if root else f"{group_of(path)}.", text.splitlines()):
        if entry.comment or key not in entries:  # a group is named in `defaults` and as a section
            entries[key] = entry
    return entries


def _walk(
    mapping: yaml.MappingNode, prefix: str, lines: Sequence[str]
) -> Iterator[tuple[str, Entry]]:
    for key, value in mapping.value:
        if key.value == "defaults" and not prefix:
            for item in value.value:  # `- optimizer: adamw  # comment` explains a config group
                if isinstance(item, yaml.MappingNode):
                    yield from _walk(item, "", lines)
            continue
        if " " in key.value or "/" in key.value:  # `override hydra/sweeper`: not a key
            continue
        on_key_line = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if on_key_line else value.end_mark
        rest = lines[mark.line][mark.column :].lstrip(": ")
        comment = rest[1:].strip() if rest.startswith("#") else ""
        yield f"{prefix}{key.value}", Entry(comment, value.value == MISSING)
        if isinstance(value, yaml.MappingNode):
            yield from _walk(value, f"{prefix}{key.value}.", lines)


def _entries(folders: Sequence[Path], choices: Mapping[str, str]) -> dict[str, Entry]:
    """Entries of config.yaml and the chosen files; a comment holds until a later file has one."""
    config_dir = folders[0]
    found = (choice_file(folders, group, choice) for group, choice in choices.items())
    files = [file_for(file, choices.get("task", "")) for file in found if file is not None]
    files.sort(key=lambda file: GLOBAL in file.read_text(encoding="utf-8").partition("\n")[0])
    merged: dict[str, Entry] = {}
    for file in [config_dir / "config.yaml", *files]:
        for key, entry in file_entries(file).items():
            old = merged.get(key, entry)
            merged[key] = Entry(entry.comment or old.comment, entry.required)
    return merged


def choice_file(folders: Sequence[Path], group: str, choice: str) -> Path | None:
    """The file of a choice in the first of some folders that has it; None for a list of several."""
    places = (folder / group / f"{choice}.yaml" for folder in folders)
    return next((file for file in places if file.is_file()), None)


def key_comments(config_dir: Path, choices: Mapping[str, str]) -> dict[str, str]:
    """The comment of every commented key under the given choices.

    Args:
        config_dir: the folder of ``config.yaml``.
        choices: config group to choice, e.g. ``{"optimizer": "adamw", "data": "voc"}``.

    Returns:
        Dotted key (or config group) to comment.
    """
    entries = _entries([config_dir], choices)
    return {key: entry.comment for key, entry in entries.items() if entry.comment}


def config_groups(*folders: Path) -> dict[str, dict[str, str]]:
    """Config group to its choices, each with the first comment of its file, over some folders."""
    groups: dict[str, dict[str, str]] = {}
    for folder in (it for place in folders for it in sorted(place.iterdir()) if it.is_dir()):
        files = sorted(folder.glob("*.yaml"))
        if files:  # `hydra/` holds only folders
            found = {file.stem: _first_comment(file) for file in files}
            groups[folder.name] = found | groups.get(folder.name, {})
    order = (*FIRST_SECTIONS, *groups)
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0])))


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def examples(config_dir: Path) -> list[tuple[str, str]]:
    """What one may type, and what it does: the comments of config.yaml that begin with a script."""
    text = (config_dir / "config.yaml").read_text(encoding="utf-8")
    return [(words.strip(), what) for words, what in _EXAMPLE.findall(text)]


def help_text(cfg: DictConfig, config_dir: Path, program: str, width: int) -> str:
    """The whole of ``--help`` for one composed config.

    Args:
        cfg: composed with its ``hydra`` node, whose choices say which files to read, and whose
            search path, where else they are.
        config_dir: the folder of ``config.yaml``.
        program: name of the entry script, e.g. ``train.py``.
        width: characters per line.
    """
    chosen = {group: choice for group, choice in cfg.hydra.runtime.choices.items() if choice}
    sources = [it.path for it in cfg.hydra.runtime.config_sources if it.schema == "file"]
    folders = [config_dir, *(Path(path) for path in sources if Path(path) != config_dir)]
    entries = _entries(folders, chosen)
    values = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(values, dict)
    del values["hydra"]
    lines = [f"usage: python {program} [-m] [KEY=VALUE ...]"]
    if shown := examples(config_dir):
        rows = [(f"python {program} {words}".rstrip(), what) for words, what in shown]
        lines += ["", "examples:", *_table(rows, width, column=80)]
    groups = config_groups(*(folder for folder in folders if folder.is_dir()))
    general = {key: value for key, value in values.items() if not isinstance(value, dict)}
    for name in dict.fromkeys((*FIRST_SECTIONS, *groups, *values)):
        if name in general or not (name in groups or name in values):
            continue
        lines += ["", f"{name} (now {chosen.get(name) or 'none'})" if name in groups else name]
        rows = [
            (f"{name}={choice}", about)
            for choice, about in groups.get(name, {}).items()
            if _is_for(choice_file(folders, name, choice), groups["task"], chosen["task"])
        ]
        if name in values:
            rows += _section(name, values[name], entries)
        lines += _table(rows, width)
    lines += ["", "general", *_table(_section("", general, entries), width)]
    return "\n".join([*lines, "", *_where(cfg, width)])


def _is_for(path: Path | None, tasks: Iterable[str], task: str) -> bool:
    """Whether a choice goes with the task."""
    return path is None or task in tasks_of(path, tasks)


def choice_and_task(target: str, config_dir: Path) -> tuple[str, str] | None:
    """The data set that has the class ``target``, and the task that reads it; None if there is
    none."""
    task = target.partition(".")[0]
    if (config_dir / "task" / f"{task}.yaml").is_file():
        for path in sorted((config_dir / "data").glob("*.yaml")):
            if target in targets(path):
                return path.stem, task
    return None


def _where(cfg: DictConfig, width: int) -> list[str]:
    hydra = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(hydra, dict)
    rows = [
        (f"hydra.run.dir={hydra['run']['dir']}", "where a run is written"),
        (f"hydra.sweep.dir={hydra['sweep']['dir']}", "where the runs of -m are written"),
        ("--hydra-help", "Hydra's own flags"),
    ]
    return ["output and flags", *_table(rows, width, column=72)]


def _section(name: str, node: Any, entries: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """`KEY=DEFAULT` and the comment, of the keys that a person types: those with a comment."""
    rows = []
    for key, value in flatten(node, name).items():
        entry = entries.get(key, Entry("", False))
        if entry.required and value in (None, MISSING):
            word = "PATH" if key.endswith("root") else "VALUE"
            rows.append((f"{key}={word}", f"{entry.comment} (must be given)"))
        elif entry.comment:
            listed = isinstance(value, list) and any(isinstance(it, dict) for it in value)
            shown = "[...]" if listed else format_value(value)  # too long to be typed, or read here
            rows.append((f"{key}={shown}", entry.comment))
    return rows


def _table(rows: Sequence[tuple[str, str]], width: int, column: int = KEY_COLUMN) -> list[str]:
    """Two aligned columns, the second wrapped; a left cell that is too wide gets its own line."""
    left = min(max((len(cell) for cell, _ in rows), default=0), column)
    lines = []
    for cell, text in rows:
        wrapped = textwrap.wrap(text, max(width - left - 4, 24)) or [""]
        if len(cell) > left:
            wrapped.insert(0, "")
        lines += [f"  {cell:<{left}}  {wrapped[0]}".rstrip()]
        lines += [f"  {'':<{left}}  {more}" for more in wrapped[1:]]
    return lines

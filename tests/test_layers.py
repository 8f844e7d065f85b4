"""The order of rooms, as DESIGN and CONTRIBUTING draw it, over all imports of all files.

Imports inside functions count, and so do those for types alone: they tie rooms as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = (
    "base",  # the modules that lie in no room
    "records",
    "config",
    "cli",
    "study",
    "analysis",
    "report",
    "api",
    "augment",
    "data",
    "networks",
    "training",
    "inference",
)
TORCH_FREE = ROOMS[: ROOMS.index("augment")]
FRONT = ("phasewise", "phasewise.lightning", "phasewise.records")
"""They name what later rooms and files define, for types alone: `phasewise.lazy` imports it when it
is asked for."""

TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))
HEAVY = {"torch", "lightning", "pytorch_lightning", "torchvision", "torchmetrics", "timm"}


@cache
def files() -> dict[str, Path]:
    """Every module of the engine, the plugin and the tasks by name; a package by its own."""
    found = {}
    for top in ("phasewise", "hydra_plugins", *TASKS):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imported(module: str) -> frozenset[str]:
    """What a file imports, by full name: modules of the project, packages of others."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(files()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            own = names & files().keys()
            found |= own | ({str(node.module)} if own != names else set())
    return frozenset(found)


def imports() -> Iterator[tuple[str, str]]:
    """Every pair of modules of the project of which the first imports the second."""
    for module in files():
        for other in sorted(imported(module) & files().keys()):
            yield module, other


def rank(module: str) -> int:
    """The place of a module's room; tasks come last, the plugin begins studies as the API does."""
    top, _, below = module.partition(".")
    if top in TASKS:
        return len(ROOMS)
    room = "api" if top == "hydra_plugins" else below.partition(".")[0]
    return ROOMS.index(room) if room in ROOMS else 0


def test_every_room_is_known() -> None:
    folders = {path.parent.name for path in (ROOT / "phasewise").glob("*/__init__.py")}
    assert folders == set(ROOMS) - {"base"}
    assert len(TASKS) == 4
    assert len(files()) > 200


def test_no_file_imports_a_later_room() -> None:
    found = {it for it in imports() if it[0] not in FRONT}
    assert not {it for it in found if rank(it[0]) < rank(it[1])}


def test_no_task_imports_another() -> None:
    tops = [(module.split(".")[0], other.split(".")[0]) for module, other in imports()]
    assert [(a, b) for a, b in tops if a in TASKS and b in TASKS and a != b] == []


FOREIGN = (
    "segmentation-models-pytorch",  # a library, by its name on PyPI
    "segmentation_models_pytorch",  # and as it is imported
    "ImageSets/Segmentation",  # folders of the PASCAL VOC layout
    "SegmentationClass",
    '"segmentation"',  # the key of an outline in COCO's JSON
    "torchreid",  # a library whose transforms are compared with
)
"""What is called like a task and is none."""


def test_the_engine_names_no_task() -> None:
    found = []
    for path in sorted((ROOT / "phasewise").rglob("*")):
        if path.suffix in (".py", ".j2"):
            text = path.read_text(encoding="utf-8").lower()
            for name in FOREIGN:
                text = text.replace(name.lower(), "")
            found += [(path.name, task) for task in TASKS if task in text]
    assert found == []


def circles() -> list[set[str]]:
    """Modules that import each other, over any way round (Tarjan 1972)."""
    graph = {module: sorted(imported(module) & files().keys()) for module in files()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == number[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(set(stack[place:]))
            del stack[place:]

    for module in graph:
        if module not in number:
            visit(module)
    return found


def test_no_circle() -> None:
    assert not [*circles()]


@pytest.mark.parametrize(
    ("rooms", "foreign"),
    [
        (TORCH_FREE, HEAVY),
        (("base", "records"), {"hydra", "omegaconf"}),
    ],
)
def test_what_a_room_may_not_import(rooms: tuple[str, ...], foreign: set[str]) -> None:
    found = [
        (module, other)
        for module in files()
        if module.startswith("phasewise") and ROOMS[rank(module)] in rooms
        for other in imported(module)
        if other.partition(".")[0] in foreign
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rooms", "foreign"),
    [
        (TORCH_FREE, HEAVY),
        (("base", "records"), HEAVY | {"hydra", "omegaconf", "pydantic", "pandas"}),
    ],
)
def test_nor_get_through_others(rooms: tuple[str, ...], foreign: set[str]) -> None:
    names = [m for m in files() if m.startswith("phasewise") and ROOMS[rank(m)] in rooms]
    code = (
        f"import sys\nfor name in {names!r}: __import__(name)\n"
        f"print(sorted({foreign!r} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "[]\n"

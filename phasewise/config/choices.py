"""Choices of a config group that are read differently by each task.

``conf/data/coco.yaml`` has a folder of its name beside it, with a file for each task that reads
COCO; its defaults take the one of the task, as those of ``conf/config.yaml`` do of a preset. Only
Hydra knows which, when it composes; what is said of a choice before that is read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from phasewise.errors import Problem


def variants(path: Path) -> dict[str, Path]:
    """The files of a choice that has one for each task, by task; none of an ordinary choice."""
    return {it.stem: it for it in sorted(path.with_suffix("").glob("*.yaml"))}


def file_for(path: Path, task: str) -> Path:
    """The file that a choice takes its keys from."""
    return variants(path).get(task, path)


def group_of(path: Path) -> str:
    """The config group that a file sets keys of: its folder, or of a variant the one above."""
    folder = path.parent
    is_variant = folder.with_name(f"{folder.name}.yaml").is_file()
    return folder.parent.name if is_variant else folder.name


def targets(path: Path) -> list[str]:
    """The classes that a choice names by ``_target_``, one for each of its variants."""
    files = variants(path).values() or [path]
    nodes = (yaml.safe_load(it.read_text(encoding="utf-8")) or {} for it in files)
    return [str(node.get("_target_", "")) for node in nodes]


def tasks_of(path: Path, tasks: Iterable[str]) -> list[str]:
    """The tasks that a choice goes with: those it has variants for, or whose class reads it."""
    if own := variants(path):
        return [task for task in tasks if task in own]
    packages = [target.partition(".")[0] for target in targets(path)]
    return [task for task in tasks if task in packages or not set(packages) & {*tasks}]


def not_for_task(error: Exception, config_dir: Path) -> Problem | None:
    """What to say where a choice has no variant for the task, which Hydra misses as a file."""
    missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
    group, choice, task = (*(missing or "").split("/"), "", "")[:3]
    return _no_variant(group, choice, task, config_dir) if task else None


def preset_not_for_task(runtime: DictConfig) -> Problem | None:
    """The same of a preset, whose file of the task may be missing as most presets have none.

    Args:
        runtime: ``hydra.runtime`` of a composed config, which knows all folders of config files.
    """
    preset, task = (str(runtime.choices.get(group)) for group in ("preset", "task"))
    folders = [Path(it.path) for it in runtime.config_sources if it.schema == "file"]
    files = [folder / "preset" / f"{preset}.yaml" for folder in folders]
    if any(task in variants(file) for file in files):
        return None
    found = (_no_variant("preset", preset, task, folder) for folder in folders)
    return next((problem for problem in found if problem is not None), None)


def _no_variant(group: str, choice: str, task: str, config_dir: Path) -> Problem | None:
    owners = variants(config_dir / group / f"{choice}.yaml")
    if not owners:
        return None
    tasks = [it.stem for it in (config_dir / "task").glob("*.yaml")]
    files = sorted((config_dir / group).glob("*.yaml"))
    own = [it.stem for it in files if task in tasks_of(it, tasks)]
    others = f"; this task reads only {group}={', '.join(own)}" if own else ""
    return Problem(f"{group}={choice}", f"belongs to task={' or '.join(owners)}{others}")

"""From a path to a trained network: a checkpoint, the directory of a run, or that of a study.

::

    trained = restore(path, run_of=winning_run)        # of phasewise.study.winner; scripts wire it
    trained.module                                     # in eval mode, on the CPU, no gradients
    images = normalize(pixels)      # phasewise.augment.color; uint8 RGB (B, 3, S, S), S=image_size
    outputs = trained.module(images)                   # the task's outputs by name

Nothing of a stranger's checkpoint is run: it is read with ``weights_only``, its config must be one
that this version's schema accepts, no file or address that it names is opened, and code that it
names is the project's or in a package that the caller trusts by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from phasewise.config.defaults import completed
from phasewise.config.help import problems_of
from phasewise.config.schema import NOT_OF_A_RUN, RunConfig
from phasewise.config.trust import BUILT_LATER, known_class, refuse_untrusted, untrusted
from phasewise.errors import Problem, UserError
from phasewise.networks.backbones import LATER
from phasewise.project import ROOT
from phasewise.records.checkpoints import BEST, FOLDER, LAST, why_removed
from phasewise.records.record import RECORD, RunRecord, read_record
from phasewise.training.build import module_arguments
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.module import TaskModule

OF_TRAINING = (
    "optimizer",
    "scheduler",
    "trainer",
    "early_stopping",
    "objective",
    "init_from",
    "logger",
    "callbacks",
    "figures",
    "test",
    "seed",
)
"""Sections and keys of a run's config that a trained network does not depend on."""

RunOf = Callable[[Path], Path | None]
"""Directory of a study to that of the run that came out of it; None where it is no study's.
Raises UserError where nothing has come out yet."""


@dataclass(frozen=True)
class Restored:
    """A trained network.

    Attributes:
        checkpoint: its file.
        config: the run's config as plain containers; keys that are newer have their defaults.
        info: what the checkpoint knows of the data, see `StoreDataModule.describe`.
        module: the network with its weights, on the CPU, in eval mode, without gradients.
        state: its weights by name.
        trust: packages, modules and classes outside of the project that the caller trusts.
    """

    checkpoint: Path
    config: dict[str, Any]
    info: dict[str, Any]
    module: TaskModule
    state: dict[str, Any]
    trust: tuple[str, ...] = ()

    def rebuilt(self, config: Mapping[str, Any]) -> TaskModule:
        """The network again, with other settings that do not change its weights."""
        return _module(self.checkpoint, dict(config), self.info, self.state, self.trust)

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.config["task"]["name"]

    @property
    def class_names(self) -> list[str]:
        """Index to name; of a retrieval network the identities that it was trained on."""
        return self.info["class_names"]

    @property
    def image_size(self) -> int:
        """Side of its images in pixels."""
        return self.info["image_size"]

    @property
    def resize(self) -> str:
        """How images are brought to that size: ``stretch`` or ``letterbox``."""
        return self.config["data"]["resize"]

    @property
    def run(self) -> Path | None:
        """The directory of the run that wrote it; None where the file lies elsewhere now."""
        directory = self.checkpoint.parent.parent
        kept = self.checkpoint.parent.name == FOLDER and (directory / RECORD).is_file()
        return directory if kept else None

    @property
    def record(self) -> RunRecord | None:
        """The record of that run."""
        return None if self.run is None else read_record(self.run)


def restore(
    path: str | Path,
    *,
    task: str | None = None,
    run_of: RunOf | None = None,
    trust: Collection[str] = (),
) -> Restored:
    """The network that ``path`` names.

    Args:
        path: see `find_checkpoint`.
        task: the name of the only task that will do.
        run_of: see `find_checkpoint`.
        trust: packages, modules and classes outside of the project whose code the checkpoint may
            name.

    Raises:
        UserError: there is no checkpoint, it is none of ours, it is of another task, it names other
            code, or its training diverged.
    """
    file = find_checkpoint(path, run_of=run_of)
    content = read_checkpoint(file)
    config, info, state = _parts(file, content)
    name = config["task"]["name"]
    if task is not None and name != task:
        raise UserError(f"{file} is of task={name}, not of task={task}")
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise UserError(f"{file}: its weights are not finite numbers: the training has diverged")
    config, trust = completed(config), tuple(trust)
    _check(file, config, trust)
    module = _module(file, config, info, state, trust)
    return Restored(file, config, info, module, state, trust)


def restore_all(
    paths: Sequence[str | Path], *, run_of: RunOf | None = None, trust: Collection[str] = ()
) -> list[Restored]:
    """The networks that ``paths`` name, all of the first one's task; see `restore`.

    Raises:
        UserError: see `restore`; or two of them are the same network, which would count twice.
    """
    members: list[Restored] = []
    for path in paths:
        task = members[0].task if members else None
        one = restore(path, task=task, run_of=run_of, trust=trust)
        for other in members:
            if _same_weights(one, other):
                raise UserError(
                    f"checkpoint: {one.checkpoint} has the weights of {other.checkpoint}, so that "
                    "one network would count twice; name it once"
                )
        members.append(one)
    return members


def _same_weights(one: Restored, other: Restored) -> bool:
    """Whether they are one network, wherever their files lie."""
    if one.state.keys() != other.state.keys():
        return False
    return all(torch.equal(value, other.state[name]) for name, value in one.state.items())


def find_checkpoint(path: str | Path, *, run_of: RunOf | None = None) -> Path:
    """The checkpoint file that ``path`` names.

    Args:
        path: the file; or the directory of a run, whose best checkpoint counts (the last one where
            no epoch was best); or that of a study or sweep.
        run_of: finds the run of a study; without it studies are not known.

    Raises:
        UserError: there is none.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return place
    if not place.is_dir():
        gone = why_removed(place.parent.parent) if place.parent.name == FOLDER else None
        raise UserError(f"{place}: {gone or 'no such file or directory'}")
    run = place
    if not (place / FOLDER).is_dir() and run_of is not None:
        run = run_of(place) or place
    for name in (BEST, LAST):
        file = run / FOLDER / f"{name}.ckpt"
        if file.is_file():
            return file
    if (gone := why_removed(run)) is not None:
        raise UserError(f"{run}: {gone}")
    if run != place:
        raise UserError(f"{place}: its run {run.name} has no checkpoint ({FOLDER}/{BEST}.ckpt)")
    what = "holds no checkpoint" if any(place.iterdir()) else "is empty"
    wanted = f"a run's has {FOLDER}/{BEST}.ckpt"
    raise UserError(f"{place} {what}; {wanted}" + ", a study's study.json" * (run_of is not None))


def _parts(
    file: Path, content: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Config, info and weights, which must at least look like it."""
    ours = content["phasewise"] if isinstance(content["phasewise"], dict) else {}
    config: Any = ours.get("config")
    info: Any = ours.get("info")
    state: Any = content.get("state_dict")
    task = config.get("task") if isinstance(config, dict) else None
    named = isinstance(task, dict) and isinstance(task.get("name"), str)
    whole = named and isinstance(state, dict)
    whole = whole and isinstance(info, dict) and {"class_names", "image_size"} <= info.keys()
    if not whole or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} is no checkpoint of phasewise")
    return config, info, state


def _check(file: Path, config: Mapping[str, Any], trust: Collection[str]) -> None:
    """Refuse a config that makes no network; where its data were does not matter."""
    refuse_untrusted(file, _untrusted(config, trust))
    here = deepcopy(dict(config))
    if isinstance(here.get("data"), dict) and "root" in here["data"]:
        here["data"]["root"] = str(ROOT)
    problems = problems_of_config(here, trust)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        text = f"{file}: this version has no use for its config: {problems[0]}{more}"
        raise UserError(text)


def _untrusted(config: Mapping[str, Any], trust: Collection[str]) -> dict[str, Any]:
    """Names of code that a network, and what judges it, would be made of; by key."""
    apart = (*OF_TRAINING, *NOT_OF_A_RUN, "data")
    made = {key: node for key, node in config.items() if key not in apart}
    # looked at again where it is built: there it must be a network of the project's
    found = untrusted(made, object, trust)
    schema = config["task"].get("schema")
    return found | untrusted({"task": {"schema": {"_target_": schema}}}, object, trust)


def problems_of_config(config: Mapping[str, Any], trust: Collection[str] = ()) -> list[Problem]:
    """What this version would not accept of a saved config, by its task's schema.

    How the network was trained does not count, nor where its first weights came from.
    """
    schema = known_class(config["task"].get("schema"), RunConfig, trust)
    if schema is None:
        return [Problem(f"task={config['task']['name']}", "is not installed here")]
    data = {key: deepcopy(value) for key, value in config.items() if key not in NOT_OF_A_RUN}
    data["init_from"] = None
    if isinstance(data.get("model"), dict) and data["model"].get("pretrained"):
        data["model"]["pretrained"] = True
    try:
        found = schema.model_validate(data, context={"trust": trust}).all_conflicts()
        return [it for it in found if it.file.startswith("data.")]
    except ValidationError as error:
        problems = problems_of(error, data)
        return [it for it in problems if re.split("[.=]", it.file)[0] not in OF_TRAINING]


def _module(
    file: Path,
    config: dict[str, Any],
    info: dict[str, Any],
    state: dict[str, Any],
    trust: Collection[str],
) -> TaskModule:
    name = config["task"]["module"]["_target_"]
    kind = known_class(name, TaskModule, trust)  # type: ignore[type-abstract]
    if kind is None:
        raise UserError(f"{file}: its task.module={name} is no TaskModule of phasewise")
    used = deepcopy(config)
    if used["model"].get("pretrained"):
        used["model"]["pretrained"] = LATER
    arguments = module_arguments(kind, used, info)
    built = {key: value for key, value in arguments.items() if key not in BUILT_LATER}
    refuse_untrusted(file, untrusted(built, nn.Module, trust))
    try:
        module = kind(**arguments)
        module.load_state_dict(state)
    except (UserError, LookupError, TypeError, ValueError, RuntimeError) as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        reason = " ".join(line.strip() for line in lines[:2])[:200]
        text = f"{file}: its weights and its config do not go together ({reason})"
        raise UserError(text) from error
    return module.eval().requires_grad_(False)

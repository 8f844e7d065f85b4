"""Shows that a key bites: two tiny runs whose figures differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
from omegaconf import DictConfig, OmegaConf

from phasewise.config.schema import NOT_OF_A_RUN
from phasewise.records.history import Row, read_history
from phasewise.training.run import train

CHOSEN = {
    "task.name",
    "task.schema",
    "task.module._target_",
    "task.predictor",
    "data._target_",
    "optimizer._target_",
    "optimizer.amsgrad",
    "scheduler.name",
}
"""Keys that come with the choice of a file and are not typed."""


class Outcome:
    """The figures of tiny runs, each kept for the next test that asks for it.

    Args:
        tiny: overrides of all of them.
    """

    def __init__(
        self,
        make_config: Callable[..., DictConfig],
        folders: pytest.TempPathFactory,
        tiny: Sequence[str],
    ) -> None:
        self.make_config, self.folders, self.tiny = make_config, folders, tiny
        self._known: dict[str, list[Row]] = {}

    def again(self, overrides: str) -> list[Row]:
        """Every metric of every epoch of a new run; times left out."""
        directory = self.folders.mktemp("run")
        # the test split is not looked at: its figures are no part of the history
        train(self.make_config("test=false", *self.tiny, *overrides.split()), directory)
        return [{k: v for k, v in row.items() if "/" in k} for row in read_history(directory)]

    def __call__(self, overrides: str) -> list[Row]:
        if overrides not in self._known:
            self._known[overrides] = self.again(overrides)
        return self._known[overrides]

    def differs(self, change: str) -> bool:
        """Whether overrides change the figures; those after ``|`` go to both runs."""
        changed, _, common = change.partition("|")
        return self(f"{common} {changed}".strip()) != self(common)


def tried(changes: Iterable[str]) -> set[str]:
    """The keys that a list of changes is about."""
    words = (word for change in changes for word in change.replace("|", " ").split())
    return {word.split("=")[0] for word in words}


def all_keys(cfg: DictConfig) -> set[str]:
    """The dotted keys of what a config says of a run."""

    def walk(node: object, prefix: str) -> set[str]:
        if isinstance(node, dict):
            return {k for key, value in node.items() for k in walk(value, f"{prefix}.{key}")}
        return {prefix.lstrip(".")}

    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    return walk({key: node for key, node in content.items() if key not in NOT_OF_A_RUN}, "")

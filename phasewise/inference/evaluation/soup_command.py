"""``evaluate.py soup=greedy``: makes the soup, keeps it as a run's checkpoint, compares it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasewise.cli.main import check_directory
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.resources import find_device
from phasewise.errors import UserError
from phasewise.inference.evaluation.data import open_data, with_data
from phasewise.inference.evaluation.ensemble import described, joined
from phasewise.inference.evaluation.measure import autocast, measure, run_precision
from phasewise.inference.evaluation.output import ADVICE
from phasewise.inference.evaluation.settings import EvaluationSettings
from phasewise.inference.evaluation.soup import (
    Step,
    average,
    greedy,
    renew_batch_norms,
)
from phasewise.inference.evaluation.soup_members import check_data, check_members
from phasewise.inference.restore import Restored
from phasewise.records.checkpoints import BEST, FOLDER
from phasewise.records.record import RECORD, environment, to_json
from phasewise.storage import write_whole
from phasewise.text import align, format_metric
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.module import Scores, TaskModule

INDEX = "soup.json"

RENEWED = 4096
"""The statistics of batch norms are measured on so many training images at most."""

KEPT = ("state_dict", "hyper_parameters", "hparams_name", "pytorch-lightning_version", "phasewise")
"""Of a checkpoint, what does not belong to one training."""


@dataclass
class Soup:
    """What was made of several networks.

    Attributes:
        place: its directory, as a run's.
        members: the networks that were given.
        steps: what was tried, in that order.
        value: its validation objective.
        figures: metrics of ``soup``, ``best member`` and ``ensemble`` on the split that was looked
            at, by full name.
    """

    place: Path
    members: Sequence[Restored]
    steps: Sequence[Step]
    value: float
    data: StoreDataModule
    config: dict[str, Any]
    figures: dict[str, Scores] = field(default_factory=dict)

    @property
    def taken(self) -> list[Restored]:
        """The networks that it is the mean of, best first."""
        return [self.members[step.member] for step in self.steps if step.taken]

    def compare(self, settings: EvaluationSettings, own: Scores) -> str:
        """Measure its best member, and those taken as an ensemble, beside it; a table.

        Args:
            settings: of the command.
            own: the metrics of the soup on the split.
        """
        device = find_device(settings.accelerator)
        precision = run_precision(self.config, device)
        modules = [it.rebuilt(_with(it, self.config)).to(device) for it in self.taken]
        for module in modules:
            module.accept(self.data)
        alone = measure(modules[0], self.data, settings.split, precision)
        self.figures = {"soup": own, "best member": alone.metrics}
        if len(modules) > 1:
            module = joined(modules)
            found = measure(module, self.data, settings.split, precision, modules[1:])
            self.figures["ensemble"] = found.metrics
        self.write(settings)
        return self._table(modules[0].headline)

    def _table(self, first: Sequence[str]) -> str:
        names = [name for name in self.figures["soup"] if name.count("/") == 1]
        names.sort(key=lambda name: (name.partition("/")[2] not in first, name.endswith("/loss")))
        lines = [["", *self.figures]]
        lines += [
            [name, *(format_metric(it.get(name)) for it in self.figures.values())] for name in names
        ]
        return align(lines)

    def described(self) -> str:
        """What was tried and taken, for terminals."""
        metric = self.config["objective"]["metric"]
        lines = [[metric, "alone", "average", ""]]
        for step in self.steps:
            name = str(self.members[step.member].checkpoint)
            values = (format_metric(step.alone), format_metric(step.average))
            lines.append([name, *values, "taken" if step.taken else "not taken"])
        count, of = len(self.taken), len(self.members)
        text = f"soup of {count} of {of} networks, chosen on validation data: {self.place}"
        if count == 1:
            text += "\nno average was as good as the best network alone, which is the soup"
        return f"\n{align(lines)}\n\n{text}"

    def write(self, settings: EvaluationSettings) -> None:
        """``soup.json``: what it is made of, and what was measured."""
        names = described(self.members)
        steps = [
            names[it.member] | {"alone": it.alone, "average": it.average, "taken": it.taken}
            for it in self.steps
        ]
        content = {
            "schema": 1,
            "task": self.members[0].task,
            "recipe": "greedy",
            "batch_norms": "renewed on training images",
            "objective": {**self.config["objective"], "value": self.value},
            "members": steps,
            "split": settings.split,
            "figures": self.figures,
            "data": self.data.summary().as_dict(),
            "environment": environment(),
        }
        text = json.dumps(to_json(content), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(self.place / INDEX, text + "\n", ADVICE)


def make_soup(
    settings: EvaluationSettings, words: Sequence[str], members: Sequence[Restored]
) -> Soup:
    """Choose the members on validation data, and keep their mean as a checkpoint.

    Args:
        settings: of the command.
        words: overrides of the data.
        members: of one task.

    Raises:
        UserError: they have no common mean, their data are others, or the place is taken.
    """
    check_members(members)
    place = _place(settings, members[0])
    config = with_data(members[0].config, words, members[0].trust)
    data = open_data(config, members[0].checkpoint, members[0].trust)
    data.setup("validate")
    if not len(data.splits.stores.get("val", ())):
        raise UserError("soup: the data have no validation split, by which its members are chosen")
    check_data(members, data)
    judge = _Judge(members[0].rebuilt(config), data, config, find_device(settings.accelerator))
    states = [member.state for member in members]
    steps = greedy(
        [judge.score(state) for state in states],
        lambda places: judge.score_average([states[place] for place in places]),
        config["objective"]["mode"],
    )
    if not steps:
        raise UserError(f"soup: {judge.metric} is undefined for each of the networks")
    value = judge.score_average([states[step.member] for step in steps if step.taken])
    soup = Soup(place, members, steps, value, data, config)
    _write_checkpoint(soup, judge.state())
    soup.write(settings)
    return soup


def _place(settings: EvaluationSettings, first: Restored) -> Path:
    """Where the soup goes; never where a run lies."""
    place = (first.run or first.checkpoint.parent) / "soup"
    if settings.output is not None:
        place = Path(settings.output).expanduser()
    check_directory("output", str(place))
    holds = [name for name in (RECORD, FOLDER) if (place / name).exists()]
    if holds and not (place / INDEX).is_file():
        raise UserError(f"output={place}: holds {holds[0]} of a run; {ADVICE}")
    return place


def _with(member: Restored, config: dict[str, Any]) -> dict[str, Any]:
    return member.config | {"data": config["data"]}


class _Judge:
    """Scores weights on the validation split, all by the same module.

    What is fitted to validation data beside the weights (a threshold) is fitted again, as at the
    end of an epoch.
    """

    def __init__(
        self,
        module: TaskModule,
        data: StoreDataModule,
        config: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.module = module.to(device)
        self.module.accept(data)
        self.data = data
        self.precision = run_precision(config, device)
        self.metric: str = config["objective"]["metric"]

    def score(self, state: Mapping[str, Tensor]) -> float:
        """The objective with these weights."""
        self.module.load_state_dict(state)
        return self._score()

    def score_average(self, states: Sequence[Mapping[str, Tensor]]) -> float:
        """The objective with the average of weights; of one network it is its own."""
        self.module.load_state_dict(average(states))
        if len(states) > 1:
            with autocast(self.module.device, self.precision):
                renew_batch_norms(self.module, self._training_images())
        return self._score()

    def _training_images(self) -> Iterator[Tensor]:
        """As evaluation sees them, in an order that mixes what was listed together."""
        rows = torch.randperm(
            len(self.data.splits.stores["train"]), generator=torch.Generator().manual_seed(0)
        )
        for index in rows[:RENEWED].split(self.data.batch_size):
            yield self.data.prepared("train", index, self.module.device)["image"]

    @torch.no_grad()
    def _score(self) -> float:
        rows = torch.arange(len(self.data.splits.stores["val"]))
        with autocast(self.module.device, self.precision):
            for index in rows.split(self.data.batch_size):
                self.module.evaluate(self.data.prepared("val", index, self.module.device))
            return self.module.epoch_metrics("val")[self.metric]

    def state(self) -> dict[str, Tensor]:
        """The weights that were scored last, with what was fitted to them."""
        return {name: value.cpu().clone() for name, value in self.module.state_dict().items()}


def _write_checkpoint(soup: Soup, state: dict[str, Tensor]) -> None:
    """As a run's best one, with the settings of the best member."""
    best = read_checkpoint(soup.taken[0].checkpoint)
    content = {key: best[key] for key in KEPT if key in best} | {"state_dict": state}
    origin = described(soup.taken)
    content["phasewise"] = {**best["phasewise"], "soup": origin}
    written = io.BytesIO()
    torch.save(content, written)
    write_whole(soup.place / FOLDER / f"{BEST}.ckpt", written.getbuffer(), ADVICE)

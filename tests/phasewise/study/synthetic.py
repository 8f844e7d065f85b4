"""Directories of studies that never ran: the journal, records and histories of a declaration."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from phasewise.records.history import History, Row
from phasewise.records.record import RECORD, RunRecord, read_record
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.naming import trial_name
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult, objective_value, settings_of
from phasewise.study.selection import select

Settings = dict[str, Any]
Score = Callable[[Settings, int], "float | str"]
Edit = Callable[[RunRecord, list[Row], Settings], None]

MISSING = "missing"
"""What a score function says of a trial that left no directory."""

ENVIRONMENT = {"python": "3.11.7", "torch": "2.15.0", "git": "0123456789ab", "device": "cpu"}
BASELINE = 0.1


def clean_score(settings: Settings, seed: int) -> float:
    """Best in the middle of the learning rates and with gelu, far apart against seeds' noise."""
    score = {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5}[settings.get("optimizer.lr", 1e-3)]
    score += {"relu": 0.0, "gelu": 0.05, "leaky_relu": 0.02}[
        settings.get("model.activation", "relu")
    ]
    return score + 0.001 * noise(settings, seed)


CLEAN = {
    "lr": "optimizer.lr=1e-4,1e-3,1e-2",
    "activation": "model.activation=relu,gelu,leaky_relu",
}
CLEAN_DEFAULTS = {"optimizer.lr": 1e-3, "model.activation": "relu"}


def noise(settings: Settings, seed: int) -> float:
    """From -1 to 1, the same for the same configuration and seed."""
    return random.Random(json.dumps([settings, seed], sort_keys=True, default=str)).uniform(-1, 1)


@dataclass
class Synthetic:
    """Declares a study; `write` makes its directory.

    Attributes:
        phases: what one would type after ``-m``, by phase; an empty name is a plain sweep. Each
            starts from the winners before it.
        score: the objective at the best epoch of a trial, from all its settings and its seed, or
            how it ended: ``failed``, ``diverged``, ``out_of_memory``, ``running``, ``missing``.
        defaults: values that the config has without overrides: they tell which candidate is the
            incumbent, and which trials are the same.
        base: overrides of the starting configuration.
        edit: changes a record and its rows before they are written.
        test: whether the final and the starting configuration are tested in a last phase.
    """

    phases: Mapping[str, str] = field(default_factory=lambda: dict(CLEAN))
    score: Score = clean_score
    defaults: Settings = field(default_factory=lambda: dict(CLEAN_DEFAULTS))
    seeds: Sequence[int] = (0, 1, 2)
    base: Sequence[str] = ()
    metric: str = "val/mIoU"
    mode: str = "max"
    epochs: int = 12
    edit: Edit | None = None
    test: bool = False
    task: str = "toy"
    journal: Mapping[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> Journal:
        """Make the directory, and the journal in it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._computed: dict[str, str] = {}
        objective = {"metric": self.metric, "mode": self.mode}
        plan = Journal(
            directory=directory,
            name="synthetic",
            task=self.task,
            command=["python", "train.py", "study=synthetic"],
            objective=objective,
            seeds=list(self.seeds),
            base=list(self.base),
            status="completed",
        )
        base = list(self.base)
        for name, words in self.phases.items():
            phase = self._phase(name, words.split(), base, plan)
            if phase.winner is not None:
                base += phase.candidates[phase.winner].overrides
        if self.test:
            start, seeds = list(self.base), list(self.seeds)
            last = Phase("test", "test", objective, seeds, base=start, status="completed")
            plan.phases.append(last)
            own = [word for word in base if word not in start]
            for overrides in [own, []] if own else [[]]:
                self._candidate(last, overrides, directory)
                for trial in last.candidates[-1].trials:
                    self._test(directory / trial.directory / RECORD)
        for key, value in self.journal.items():
            setattr(plan, key, value)
        plan.write()
        return plan

    def _phase(self, name: str, words: list[str], base: list[str], plan: Journal) -> Phase:
        parsed = OverridesParser.create().parse_overrides(words)
        cells = BasicSweeper.split_arguments(parsed, None)[0]
        declared: dict[str, dict[str, None]] = {}
        for word in (word for cell in cells for word in cell):
            key, _, value = word.partition("=")
            declared.setdefault(key, {})[value] = None
        kept = {key: list(values) for key, values in declared.items() if len(values) > 1}
        phase = Phase(
            name, "grid", dict(plan.objective), list(self.seeds), base=list(base), declared=kept
        )
        plan.phases.append(phase)
        for cell in cells:
            self._candidate(phase, list(cell), plan.directory)
        own = self._fingerprint(settings_of(base), self.seeds[0])
        prints = [one.trials[0].fingerprint for one in phase.candidates]
        if own in prints:
            phase.incumbent = prints.index(own)
        elif len(plan.phases) > 1:
            phase.incumbent = len(phase.candidates)
            self._candidate(phase, [], plan.directory)
        values = [self._values(one, plan.directory) for one in phase.candidates]
        choice = select(values, phase.incumbent, mode=self.mode, seeds=self.seeds)
        phase.winner, phase.verdict, phase.reason = choice.winner, choice.verdict, choice.reason
        phase.status = "completed"
        return phase

    def _candidate(self, phase: Phase, overrides: list[str], directory: Path) -> None:
        candidate = Candidate(overrides)
        for seed in self.seeds:
            words = [*phase.base, *overrides, f"seed={seed}"]
            settings = settings_of(words[:-1])
            print_ = self._fingerprint(settings, seed)
            name = trial_name([*overrides, words[-1]])
            place = self._computed.get(print_, f"{phase.name}/{name}" if phase.name else name)
            if print_ not in self._computed:
                self._computed[print_] = place
                self._run(directory / place, words, settings, seed)
            candidate.trials.append(Trial(seed, place, print_))
        phase.candidates.append(candidate)

    def _fingerprint(self, settings: Settings, seed: int) -> str:
        text = json.dumps([self.defaults | settings, seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _run(self, place: Path, words: list[str], settings: Settings, seed: int) -> None:
        found = self.score(settings, seed)
        if found == MISSING:
            return
        record = RunRecord(
            directory=place,
            task=self.task,
            fingerprint=self._fingerprint(settings, seed),
            overrides=words,
            seed=seed,
            objective={"metric": self.metric, "mode": self.mode, "value": None, "epoch": None},
            environment=dict(ENVIRONMENT),
            data={"counts": {"train": 80, "val": 20}, "split_hash": "0" * 16, "warnings": []},
        )
        if isinstance(found, str):
            record.status, record.error = found, f"the reason why it {found}\nmore of it"
            record.cost, rows = {"seconds": 1.0, "epochs": 0}, []
        else:
            rows = [*self._rows(found, noise(settings, seed))]
            self._finish(record, rows, found)
        if self.edit is not None:
            self.edit(record, rows, settings)
        record.write()
        write_config(place, self.defaults | {"trainer.max_epochs": self.epochs} | settings)
        history = History(place)
        history.rows = rows[:-1]
        for row in rows[-1:]:
            history.append(row)

    def _rows(self, value: float, jitter: float) -> Iterator[Row]:
        """The objective rises (or falls) until three epochs before the end."""
        best, sign = max(self.epochs - 3, 1), 1 if self.mode == "max" else -1
        for epoch in range(1, self.epochs + 1):
            short = 0.05 * (best - epoch) / best if epoch <= best else 0.002 * (epoch - best)
            loss = 1.0 / (1 + epoch) + 0.01 * jitter
            row = {"epoch": epoch, "step": 5 * epoch, "seconds": 0.5, "train/loss": loss}
            row["val/loss"] = loss + 0.1 + 0.02 * abs(jitter) * (epoch % 2)
            yield row | {self.metric: value - sign * short * abs(value)}

    def _finish(self, record: RunRecord, rows: list[Row], value: float) -> None:
        best = rows[max(self.epochs - 3, 1) - 1]
        record.status = "completed"
        record.objective |= {"value": value, "epoch": best["epoch"]}
        record.best = {key: v for key, v in best.items() if "/" in key}
        record.last = {key: v for key, v in rows[-1].items() if "/" in key}
        trivial = BASELINE if self.mode == "max" else 10.0
        record.baselines = {"majority": {self.metric: trivial}}
        record.cost = {
            **{"seconds": 0.5 * self.epochs, "seconds_per_epoch": 0.5, "epochs": self.epochs},
            **{"images_per_second": 160.0, "peak_memory_mb": 900.0, "parameters": 1234567},
        }

    def _test(self, file: Path) -> None:
        if file.exists():
            content = json.loads(file.read_text())
            value = content["objective"]["value"]
            if value is not None:
                content["test"] = {self.metric.replace("val/", "test/"): value - 0.01}
            file.write_text(json.dumps(content))

    def _values(self, candidate: Candidate, directory: Path) -> dict[int, float]:
        found = {}
        for trial in candidate.trials:
            file = directory / trial.directory / RECORD
            if file.exists():
                record = read_record(file.parent)
                assert record is not None
                found[trial.seed] = objective_value(record)
        return found


def write_config(place: Path, settings: Settings) -> None:
    """``.hydra/config.yaml`` as Hydra writes it, and the overrides beside it."""
    config: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    folder = place / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


GRID = (
    "optimizer.lr=1e-4,5e-4,1e-3 data.batch_size=8,16,32 "
    "model.architecture=unet,attention_unet,attention_resunet"
)


def grid_score(settings: Settings, seed: int) -> float:
    """Without interactions; the two attention networks differ by less than noise."""
    score = {1e-4: 0.3, 5e-4: 0.5, 1e-3: 0.52}[settings["optimizer.lr"]]
    score += {8: 0.0, 16: 0.02, 32: 0.05}[settings["data.batch_size"]]
    score += {"unet": 0.0, "attention_unet": 0.04, "attention_resunet": 0.0405}[
        settings["model.architecture"]
    ]
    return score + 0.01 * noise(settings, seed)


def read_grid(directory: Path, score: Score = grid_score, **more: Any) -> StudyResult:
    """A grid of 27 configurations with one seed, written and read."""
    settings: dict[str, Any] = {"phases": {"": GRID}, "defaults": {}, "seeds": [0]} | more
    Synthetic(score=score, **settings).write(directory)
    return read_study(directory)

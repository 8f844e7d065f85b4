"""Studies against a model of what they may show, in random sequences of what people do to them.

Whatever happens between two calls (a kill, other values, phases, seeds, data or weights, a moved
folder, a full disk):

- no figure of a study belongs to other settings, data, weights or seeds than its row says;
- nothing that has finished is computed a second time;
- a call that is refused leaves everything as it was, and says how to go on;
- the end is that of a study that had nothing in its way.

PHASEWISE_SEQUENCES sets how many sequences are tried, at random; without it, always the same few.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from phasewise.study.journal import Phase, read_journal
from phasewise.study.naming import parse_overrides
from phasewise.study.read import read_study
from tests import forks
from tests.forks import Done
from tests.phasewise.study.truth_toy import bytes_of, score
from tests.voc_folder import VocFolder

pytestmark = pytest.mark.slow

SEQUENCES = os.environ.get("PHASEWISE_SEQUENCES")
APP = (
    'from phasewise.cli.main import main\n\nif __name__ == "__main__":\n    main("truth_toy:run")\n'
)

RATES = ("0.01", "0.02", "0.03")
ACTIVATIONS = ("relu", "gelu", "silu")
KEYS = {"optimizer.lr": RATES, "model.activation": ACTIVATIONS}
NAMES = ("rate", "activation", "again", "more")
START = {"optimizer.lr": 0.001, "model.activation": "native"}

SOME = st.sampled_from
REFUSED = 2


class Studies(RuleBasedStateMachine):
    """One study, its data and its weights, and what the model knows of them."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="phasewise-model-"))
        shutil.copy(Path(__file__).with_name("truth_toy.py"), self.place)
        (self.place / "app.py").write_text(APP)
        self.root = self.place / "data-0"
        self.folder = VocFolder(self.root, train=2, val=2)
        self.folder.add("test-0")
        self.folder.list("test", ["test-0"])
        self.weights = self.place / "weights.ckpt"
        self.weights.write_bytes(b"0")
        self.phases: list[tuple[str, str, tuple[str, ...]]] = [
            ("rate", "optimizer.lr", ("0.01", "0.02"))
        ]
        self.seeds = [0]
        self.edits = 0
        self.shown: tuple[dict[str, str], bytes] | None = None

    # what a person does

    @rule(key=SOME(sorted(KEYS)), name=SOME(NAMES), at=st.integers(0, 2), data=st.data())
    def add_a_phase(self, key: str, name: str, at: int, data: st.DataObject) -> None:
        if len(self.phases) < 3 and name not in [phase[0] for phase in self.phases]:
            values = data.draw(st.lists(SOME(KEYS[key]), min_size=1, max_size=2, unique=True))
            self.phases.insert(at, (name, key, tuple(values)))

    @rule(at=st.integers(0, 2), data=st.data())
    def change_the_values(self, at: int, data: st.DataObject) -> None:
        name, key, _ = self.phases[at % len(self.phases)]
        values = data.draw(st.lists(SOME(KEYS[key]), min_size=1, max_size=3, unique=True))
        self.phases[at % len(self.phases)] = (name, key, tuple(values))

    @rule(at=st.integers(0, 2), name=SOME(NAMES))
    def rename_a_phase(self, at: int, name: str) -> None:
        if name not in [phase[0] for phase in self.phases]:
            self.phases[at % len(self.phases)] = (name, *self.phases[at % len(self.phases)][1:])

    @rule(seeds=SOME(([0], [1], [0, 1])))
    def change_the_seeds(self, seeds: list[int]) -> None:
        self.seeds = seeds

    @rule(name=SOME(("train-0", "val-1", "test-0")), back=st.booleans())
    def change_data_in_place(self, name: str, back: bool) -> None:
        self.edits += not back
        self.folder.annotate(name, xmin=11 if back else 1 + self.edits % 9)

    @rule()
    def move_the_data(self) -> None:
        self.edits += 1
        self.folder.root = self.root = self.root.rename(self.place / f"data-{self.edits}")

    @rule(content=SOME((b"0", b"1")))
    def swap_the_weights(self, content: bytes) -> None:
        self.weights.write_bytes(content)

    @rule()
    def run(self) -> None:
        self._study()

    @rule(at=st.integers(1, 8))
    def run_and_kill(self, at: int) -> None:
        self._study(KILL_AT=str(at))

    @rule(at=st.integers(1, 8))
    def run_on_a_full_disk(self, at: int) -> None:
        self._study(FULL_AT=str(at))

    @precondition(lambda self: self.shown is not None)
    @rule()
    def lose_the_cache(self) -> None:
        shutil.rmtree(self.place / "outputs", ignore_errors=True)

    # what must hold

    def teardown(self) -> None:
        try:
            if self._study().returncode == REFUSED:
                assert self._study("study.set_aside=true").returncode == 0
            there = decisions(self.place / "out")
            fresh = self._call("hydra.sweep.dir=fresh", TOY_LOG=os.devnull)
            assert fresh.returncode == 0, fresh.stderr
            assert there == decisions(self.place / "fresh")
        finally:
            shutil.rmtree(self.place)

    def _study(self, *words: str, **environment: str) -> Done:
        before = tree(self.place / "out")
        done = self._call(*words, **environment)
        print(environment, words, done.returncode, done.stdout, done.stderr, sep="\n")
        if done.returncode == REFUSED:
            assert tree(self.place / "out") == before
            assert "study.set_aside=true" in done.stderr
            assert "hydra.sweep.dir=DIR" in done.stderr
        else:
            self.shown = bytes_of(self.root), self.weights.read_bytes()
        if self.shown is not None and (self.place / "out" / "study.json").exists():
            self._check_figures(*self.shown)
        if (log := self.place / "log").exists():
            finished = log.read_text().splitlines()
            assert len(finished) == len(set(finished)), "something was computed a second time"
        return done

    def _call(self, *words: str, **environment: str) -> Done:
        self._write()
        fixed = ["study=toy", f"data.root={self.root.name}", f"init_from={self.weights.name}"]
        argv = ["app.py", "--config-dir", "extra", *fixed, *words]
        return forks.training().run(
            argv, self.place, {"TOY_LOG": str(self.place / "log")} | environment
        )

    def _write(self) -> None:
        content = {
            "defaults": [{"override /task": "multitask"}, {"override /data": "voc"}],
            "data": {"image_size": 32, "split_seed": 0},
            "optimizer": {"lr": START["optimizer.lr"]},
            "trainer": {"max_epochs": 1},
            "study": {
                "name": "toy",
                "seeds": self.seeds,
                "phases": {name: f"{key}={','.join(v)}" for name, key, v in self.phases},
                "report": False,
            },
            "hydra": {"mode": "MULTIRUN", "sweep": {"dir": "out"}},
        }
        file = self.place / "extra" / "study" / "toy.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\n" + yaml.safe_dump(content, sort_keys=False))

    def _check_figures(self, data: dict[str, str], weights: bytes) -> None:
        study = read_study(self.place / "out")
        for phase in study.phases:
            for candidate in phase.candidates:
                facts = START | values_of([*phase.plan.base, *candidate.plan.overrides])
                for trial in candidate.trials:
                    if trial.record is None or trial.record.status != "completed":
                        continue
                    key = (facts["optimizer.lr"], facts["model.activation"], trial.seed)
                    where = f"{phase.plan.name} {key}"
                    assert trial.value == score(key, data, "val", weights), where
                    if phase.plan.kind == "test" and trial.record.test is not None:
                        shown = trial.record.test["test/mIoU"]
                        assert shown == score(key, data, "test", weights), where


def values_of(words: list[str]) -> dict[str, Any]:
    """What the words set of `START`."""
    found = {one.key_or_group: one.value() for one in parse_overrides(words)}
    return {key: value for key, value in found.items() if key in START}


def decisions(directory: Path) -> list[tuple[Any, ...]]:
    """What a study came to: per phase the winner, why, and every value."""
    study, plan = read_study(directory), read_journal(directory)
    assert plan is not None
    assert plan.status == "completed"
    return [
        (phase.plan.name, phase.plan.verdict, winner(phase.plan), *values(phase.candidates))
        for phase in study.phases
    ]


def winner(phase: Phase) -> list[str] | None:
    return None if phase.winner is None else phase.candidates[phase.winner].overrides


def values(candidates: list[Any]) -> list[tuple[Any, ...]]:
    return [(one.plan.overrides, one.plan.refused, one.values) for one in candidates]


def tree(directory: Path) -> dict[str, str]:
    """Every file of a folder with a hash of its bytes; locks say nothing."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_no_sequence_of_events_makes_a_study_lie() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Studies,
        settings=settings(
            max_examples=int(SEQUENCES or 8),
            stateful_step_count=10,
            derandomize=SEQUENCES is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


EVENTS: dict[str, Callable[[Studies], object]] = {
    "training data": lambda it: it.folder.annotate("train-0", xmin=3),
    "validation data": lambda it: it.folder.annotate("val-1", xmin=3),
    "test data": lambda it: it.folder.annotate("test-0", xmin=3),
    "a mask": lambda it: it.folder.mask("val-0").write_bytes(
        it.folder.mask("val-0").read_bytes() + b"0"
    ),
    "a list": lambda it: it.folder.list("val", ["val-1"]),
    "weights": lambda it: it.swap_the_weights(b"1"),
    "a moved folder": lambda it: it.move_the_data(),
    "no cache": lambda it: shutil.rmtree(it.place / "outputs"),
    "another seed": lambda it: setattr(it, "seeds", [0, 1]),
    "a phase before": lambda it: it.phases.insert(0, ("more", "model.activation", ("relu",))),
    "a phase renamed": lambda it: it.phases.__setitem__(0, ("more", *it.phases[0][1:])),
    "another value": lambda it: it.phases.__setitem__(
        0, ("rate", "optimizer.lr", ("0.03", "0.01"))
    ),
}


@pytest.mark.parametrize("first", [{}, {"KILL_AT": "3"}], ids=["whole", "killed"])
@pytest.mark.parametrize("event", EVENTS)
def test_one_event_between_two_calls(event: str, first: dict[str, str]) -> None:
    studies = Studies()
    studies._study(**first)
    EVENTS[event](studies)
    studies.teardown()

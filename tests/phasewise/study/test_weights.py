"""Which weights a study keeps, and how much room it says that it needs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.inference.restore import find_checkpoint
from phasewise.records.record import RunRecord, read_record
from phasewise.study import weights
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.plan import Stage
from phasewise.study.schema import PhaseConfig
from phasewise.study.trial_job import TrialJob
from phasewise.study.weights import (
    Policy,
    Room,
    decided_on,
    forget,
    policy_of,
    remove_all,
    remove_needless,
)
from phasewise.training.checkpoints import read_checkpoint
from tests.phasewise.study.whole import calls, make_app, study, write_study

GOAL = {"metric": "val/x", "mode": "max"}


def run(folder: Path, status: str = "completed", mb: float = 1.0) -> Path:
    """A run's directory with its checkpoints."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt", "mine.ckpt"):
        (checkpoints / name).write_bytes(b"x" * 10)
    goal = GOAL | {"value": 0.5, "epoch": 1}
    record = RunRecord(folder, "toy", "f", [], 0, goal, status=status)
    record.cost = {"checkpoint_mb": mb, "epochs": 1}
    record.write()
    return folder


def stage(root: Path, name: str, winner: int | None, incumbent: int, kind: str = "grid") -> Stage:
    """Three candidates; the second one failed."""
    phase = Phase(name, kind, GOAL, [0], winner=winner, incumbent=incumbent)  # type: ignore[arg-type]
    found = Stage(phase, PhaseConfig(overrides=["a=1,2"]))
    for row, status in enumerate(("completed", "failed", "completed")):
        directory = root / name / str(row)
        if not directory.exists():
            run(directory, status)
        phase.candidates.append(Candidate([f"a={row}"]))
        found.jobs.append([TrialJob(str(row), (), directory, f"{name}/{row}", "f")])
    return found


def kept(root: Path) -> dict[str, list[str]]:
    files = sorted(root.glob("*/*/checkpoints/*"))
    found: dict[str, list[str]] = {}
    for path in files:
        if path.name != "mine.ckpt":
            found.setdefault("/".join(path.parts[-4:-2]), []).append(path.name)
    return found


LOST = r"removed by the study .* phase a; study\.checkpoints=best"
BOTH, BEST, GONE = ["best.ckpt", "last.ckpt"], ["best.ckpt"], ["removed.txt"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", dict.fromkeys(("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"), BOTH)),
        ("best", {"a/0": BEST, "a/1": BOTH, "a/2": BEST, "b/0": BEST, "b/1": BOTH, "b/2": BEST}),
        # the start, a run that failed, the winner; the incumbent of later phases is no start
        ("winners", {"a/0": BEST, "a/1": BOTH, "a/2": BEST, "b/0": GONE, "b/1": BOTH, "b/2": BEST}),
    ],
)
def test_what_each_policy_keeps(tmp_path: Path, policy: Policy, expected: object) -> None:
    stages = [stage(tmp_path, "a", 2, 0), stage(tmp_path, "b", 2, 0)]
    remove_needless(stages, policy)
    assert kept(tmp_path) == expected
    assert len(list(tmp_path.rglob("mine.ckpt"))) == 6  # somebody's own


def test_nothing_is_removed_where_nothing_is_decided(tmp_path: Path) -> None:
    remove_needless([stage(tmp_path, "a", None, 0)], "winners")
    assert kept(tmp_path) == {"a/0": BEST, "a/1": BOTH, "a/2": BEST}


def test_none_keeps_what_is_tested_until_the_end(tmp_path: Path) -> None:
    stages = [stage(tmp_path, "a", 2, 0), stage(tmp_path, "test", None, 0, "test")]
    remove_needless(stages, "none")
    assert kept(tmp_path)["test/2"] == BEST
    remove_all(stages)
    assert set(map(tuple, kept(tmp_path).values())) == {("removed.txt",)}


def test_a_trial_that_halving_stopped_goes_with_the_losers(tmp_path: Path) -> None:
    one = stage(tmp_path, "a", 2, 0)
    one.phase.candidates[1].epochs = 2
    remove_needless([one], "winners")
    assert kept(tmp_path)["a/1"] == GONE


def test_the_next_start_finishes_what_a_kill_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [stage(tmp_path, "a", 2, 2)]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(weights, "remove_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_needless(stages, "winners")
    assert kept(tmp_path)["a/0"] == BEST
    remove_needless(stages, "winners")
    assert kept(tmp_path)["a/0"] == GONE
    remove_needless(stages, "winners")
    assert kept(tmp_path)["a/0"] == GONE


def test_who_looks_for_removed_weights_is_told_which_key_keeps_them(tmp_path: Path) -> None:
    remove_needless([stage(tmp_path, "a", 2, 2)], "winners")
    gone = tmp_path / "a" / "0"
    for path in (gone, gone / "checkpoints" / "best.ckpt"):
        with pytest.raises(UserError, match=LOST):
            find_checkpoint(path)
        with pytest.raises(UserError, match=LOST):
            read_checkpoint(path)


def test_a_sweep_keeps_each_best() -> None:
    assert policy_of(None, is_sweep=True) == "best"
    assert policy_of(None, is_sweep=False) == "winners"
    assert policy_of("all", is_sweep=True) == "all"


def test_removed_weights_are_trained_again_only_where_they_are_gone(tmp_path: Path) -> None:
    one = stage(tmp_path, "a", 2, 2)
    remove_needless([one], "winners")
    jobs = [job for row in one.jobs for job in row]
    assert forget(jobs) == jobs[:1]
    statuses = [getattr(read_record(job.directory), "status", None) for job in jobs]
    assert statuses == ["interrupted", "failed", "completed"]


@pytest.mark.parametrize(
    ("policy", "networks"),
    [
        ("all", 9 + 9 * 3 + 3),  # each its best and its last, and one is written once more
        ("best", 9 + 6),  # each its best, and the last of one, twice
        ("winners", 4 + 3 * 1 + 6),  # the largest phase, a winner of each
    ],
)
def test_the_room_that_is_needed(tmp_path: Path, policy: Policy, networks: int) -> None:
    journal = Journal(tmp_path, "toy", "toy", [], GOAL, [0], phases=[Phase("a", "grid", GOAL, [0])])
    room = Room(journal, policy)
    assert room.sizes is None
    (tmp_path / "one").mkdir()
    record = read_record(run(tmp_path / "one" / "0", mb=3.0))
    assert record is not None
    room.add(record)
    assert room.sizes is not None
    rest = (tmp_path / "one" / "0" / "record.json").stat().st_size
    assert room.sizes.rest == rest
    needed = room.needed([4, 3, 2], room.sizes)
    assert needed == pytest.approx(9 * rest + networks * 3 * 2**20)


def test_too_little_room_is_a_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, "toy", "toy", [], GOAL, [0], phases=[Phase("a", "grid", GOAL, [0])])
    room = Room(journal, "best")
    with caplog.at_level(logging.INFO):
        room.tell([3])  # nothing is known
    assert not caplog.records
    for number, size in enumerate((1.0, 1.0, 20.0)):
        record = read_record(run(tmp_path / "r" / str(number), mb=size))
        assert record is not None
        room.add(record)
        monkeypatch.setattr(weights, "free_bytes", lambda _: 20 * 10**6)
        with caplog.at_level(logging.INFO):
            room.tell([3])
    levels = [(it.levelname, it.getMessage().split(",")[0].strip()) for it in caplog.records]
    assert levels == [
        ("INFO", "disk: about 9.4 MB are needed"),
        ("WARNING", "disk: about 69.2 MB are needed"),
    ]


def test_who_lost_first_and_won_later_keeps_its_weights_when_all_is_looked_at_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, later = stage(tmp_path, "a", 2, 2), stage(tmp_path, "a", 0, 2)
    for one in (first, later):
        for candidate, jobs in zip(one.phase.candidates, one.jobs, strict=True):
            candidate.trials = [Trial(0, job.subdir, job.fingerprint, "") for job in jobs]
    before = Journal(tmp_path, "toy", "toy", [], GOAL, [0], phases=[first.phase, later.phase])
    spared = decided_on(before)
    assert spared == {tmp_path / "a" / "0", tmp_path / "a" / "2"}
    with caplog.at_level(logging.INFO):
        remove_needless([first], "winners", spared)
        remove_needless([first, later], "winners")
        assert kept(tmp_path) == {"a/0": BEST, "a/1": BOTH, "a/2": BEST}
        assert not caplog.records
        remove_needless([first], "winners", decided_on(None))
    assert kept(tmp_path)["a/0"] == GONE
    assert "weights of 1 trial that did not win removed" in caplog.text


@pytest.mark.slow
def test_the_final_configuration_is_trained_again_where_its_weights_are_gone(
    tmp_path: Path,
) -> None:
    """It had lost when they were removed; a test, or a user, needs them."""
    app = make_app(tmp_path)
    write_study(app, {"rate": "optimizer.lr=1e-1,1e-2"})
    first = study(app, "test=false")
    assert first.returncode == 0, first.stderr
    assert "the first trial will tell what is needed" in first.stdout
    final = "rate/optimizer.lr=0.01,seed=0"
    before = calls(app)
    folder = app / "out" / final / "checkpoints"
    cases: tuple[tuple[list[str], int], ...] = (
        (["test=false"], 2),
        ([], 3),
        ([], 4),
        (["study.checkpoints=none"], 4),
    )
    for words, count in cases:  # once tested, too; where nothing is kept, there is no need
        folder.mkdir(exist_ok=True)
        (folder / "removed.txt").write_text("removed by the study")
        again = study(app, *words)
        assert again.returncode == 0, again.stderr
        assert calls(app)[final] == "x" * count
        (folder / "removed.txt").unlink(missing_ok=True)
    others = {name: text for name, text in calls(app).items() if name in before and name != final}
    assert set(others.values()) == {"x"}

"""What needs more memory than a trial that ran out of it is not tried."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phasewise.records.record import RunRecord, read_record
from tests.forks import Done
from tests.phasewise.study.whole import calls, make_app, study, write_study

pytestmark = pytest.mark.slow

BATCHES = {"batch": "data.batch_size=4,8,16,32", "rate": "optimizer.lr=1e-2,1e-1"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def record(app: Path, name: str) -> RunRecord:
    found = read_record(app / "out" / name)
    assert found is not None, name
    return found


def tried(app: Path) -> set[str]:
    """The trials of the first phase that ran."""
    return {name.partition("/")[2] for name in calls(app) if name.startswith("batch/")}


def run(app: Path, *words: str, memory: int = 8 * 128) -> Done:
    return study(app, *words, MEMORY=str(memory))


def test_a_larger_batch_is_not_tried(app: Path) -> None:
    write_study(app, BATCHES)
    done = run(app)
    assert done.returncode == 1, done.stderr
    assert tried(app) == {f"data.batch_size={size},seed=0" for size in (4, 8, 16)}
    inferred = record(app, "batch/data.batch_size=32,seed=0")
    assert inferred.status == "out_of_memory"
    assert inferred.error == (
        "not tried: batch/data.batch_size=16,seed=0 ran out of memory, and this differs only in a "
        "larger data.batch_size (32, 16 there)"
    )
    assert "[batch 4/4 done] data.batch_size=32 seed=0: out_of_memory (not tried)" in done.stdout
    table = (app / "out" / "batch" / "sweep.csv").read_text()
    assert table.count("out_of_memory (not tried)") == 1
    assert f"out_of_memory: {inferred.error}" in done.stderr
    assert inferred.study["places"] == [{"phase": "batch", "number": 1, "role": "candidate"}]

    before = (app / "out" / "batch" / "data.batch_size=32,seed=0" / "record.json").stat()
    again = run(app)
    assert again.returncode == 1
    assert "1 of 4" not in again.stdout
    after = (app / "out" / "batch" / "data.batch_size=32,seed=0" / "record.json").stat()
    assert after.st_mtime_ns == before.st_mtime_ns


def test_it_is_tried_again_with_the_one_that_it_follows_from(app: Path) -> None:
    write_study(app, BATCHES)
    run(app)
    done = run(app, "study.retry_failed=true", memory=16 * 128)
    assert done.returncode == 1
    assert record(app, "batch/data.batch_size=16,seed=0").status == "completed"
    assert record(app, "batch/data.batch_size=32,seed=0").was_tried
    assert record(app, "batch/data.batch_size=32,seed=0").status == "out_of_memory"
    done = run(app, "study.retry_failed=true", memory=99 * 128)
    assert done.returncode == 0, done.stderr


def test_it_follows_from_nothing_that_is_no_more(app: Path) -> None:
    """The one that ran out of memory was removed by hand, and now has enough."""
    write_study(app, BATCHES)
    run(app)
    shutil.rmtree(app / "out" / "batch" / "data.batch_size=16,seed=0")
    assert run(app, memory=99 * 128).returncode == 0


def test_nothing_follows_for_what_differs_in_something_else(app: Path) -> None:
    write_study(app, {"batch": "data.batch_size=16,32 optimizer.lr=1e-2,1e-1"}, seeds=[0, 1])
    run(app)
    wanted = {
        f"data.batch_size=16,optimizer.lr={rate},seed={seed}"
        for rate in ("0.01", "0.1")
        for seed in (0, 1)
    }
    assert {name for name in tried(app) if name.startswith("data.batch_size=")} == wanted


def test_one_key_larger_and_another_one_smaller_tells_nothing(app: Path) -> None:
    """32 x 64 does not fit, from which nothing follows for 16 x 128, nor for 16 x 96, the start."""
    write_study(app, {"batch": "data.batch_size=32,16,64 data.image_size=64,128"})
    run(app, memory=16 * 64)
    assert tried(app) == {
        "data.batch_size=32,data.image_size=64,seed=0",
        "data.batch_size=16,data.image_size=64,seed=0",
        "data.batch_size=16,data.image_size=128,seed=0",
        "seed=0",
    }


@pytest.mark.parametrize(
    "words", [("study.memory_grows_with=[]",), ("trainer.auto_accumulate=true",)]
)
def test_not_where_nobody_says_so_or_runs_make_their_own_batches(
    app: Path, words: tuple[str, ...]
) -> None:
    write_study(app, BATCHES)
    run(app, *words)
    assert "data.batch_size=32,seed=0" in tried(app)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("[data.batchsize]", "data.batchsize: no such key; did you mean data.batch_size?"),
        ("[data.resize]", "data.resize: must be a key of a number, not 'stretch'"),
    ],
)
def test_a_key_that_is_none_is_refused(app: Path, keys: str, told: str) -> None:
    write_study(app, BATCHES)
    done = study(app, f"study.memory_grows_with={keys}")
    assert done.returncode == 2
    assert f"study.memory_grows_with={told}" in done.stderr
    assert not (app / "out").exists()

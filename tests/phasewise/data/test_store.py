from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phasewise.data import store as module
from phasewise.data.store import Store, build_store
from phasewise.errors import BadSample, Problem, UserError

FIELDS: module.Fields = {
    "image": ((3, 4, 5), np.uint8),
    "boxes": ((2, 4), "float32"),
    "labels": ((2,), np.int64),
    "known": ((), bool),
}


def _load(sample: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(sample)
    return {
        "image": random.integers(0, 256, (3, 4, 5), dtype=np.uint8),
        "boxes": random.random((2, 4), dtype=np.float32),
        "labels": np.array([sample, -1]),
        "known": np.array(sample % 2 == 0),
    }


def _never(sample: int) -> dict[str, np.ndarray]:
    raise AssertionError("the cache was not used")


def _build(
    cache_dir: Path,
    load: Any = _load,
    samples: Any = range(20),
    ram_limit_mb: Any = 100.0,
    **key: Any,
) -> Any:
    settings = {"cache_dir": cache_dir, "ram_limit_mb": ram_limit_mb, "desc": "train"}
    return build_store(samples, load, FIELDS, key={"set": "x", **key}, **settings)


def _check(store: Store, samples: Any = range(20)) -> None:
    assert len(store) == len(samples)
    for row, sample in enumerate(samples):
        for field, array in _load(sample).items():
            assert torch.equal(store[field][row], torch.from_numpy(array)), field


def _final(cache_dir: Path) -> Path:
    (directory,) = [path for path in cache_dir.iterdir() if not path.name.startswith(".")]
    return directory


# Store


def test_store_is_a_mapping_of_rows() -> None:
    store = Store({"a": torch.arange(6.0), "b": torch.arange(12, dtype=torch.uint8).view(6, 2)})
    assert len(store) == 6
    assert store.nbytes == 6 * 4 + 12
    assert dict(store).keys() == {"a", "b"}
    assert "a" in store
    assert "c" not in store
    assert store.device == store.to("cpu").device == torch.device("cpu")
    rows = store.gather(torch.tensor([5, 0, 5]))
    assert rows["a"].tolist() == [5, 0, 5]
    assert rows["b"].tolist() == [[10, 11], [0, 1], [10, 11]]
    rows["a"].zero_()
    assert store["a"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(TypeError):
        store["a"] = torch.zeros(6)  # type: ignore[index]
    with pytest.raises(IndexError):
        store.gather(torch.tensor([6]))


def test_store_wants_one_length() -> None:
    with pytest.raises(ValueError, match="common length"):
        Store({"a": torch.zeros(2), "b": torch.zeros(3)})


# Building


@pytest.mark.parametrize("ram_limit_mb", [100.0, 0.0])
def test_built_and_cached_rows_are_what_load_made(tmp_path: Path, ram_limit_mb: float) -> None:
    store, rows, problems = _build(tmp_path, ram_limit_mb=ram_limit_mb)
    _check(store)
    assert (rows, problems) == (list(range(20)), [])
    again, rows, problems = _build(tmp_path, _never, ram_limit_mb=ram_limit_mb)
    _check(again)
    assert (rows, problems) == (list(range(20)), [])
    again["image"].zero_()  # in memory or in a private copy, never in the file
    _check(_build(tmp_path, _never, ram_limit_mb=ram_limit_mb)[0])


def test_large_stores_stay_on_disk(tmp_path: Path) -> None:
    def mapped(store: Store) -> bool:
        return str(_final(tmp_path)) in Path("/proc/self/maps").read_text() and len(store) == 20

    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc/self/maps")
    small, _, _ = _build(tmp_path, ram_limit_mb=100)
    assert not mapped(small)
    large, _, _ = _build(tmp_path, ram_limit_mb=0)
    assert mapped(large)
    _check(large)


@pytest.mark.parametrize("ram_limit_mb", [100.0, 0.0])
def test_rejected_samples_are_left_out_and_remembered(tmp_path: Path, ram_limit_mb: float) -> None:
    def load(sample: int) -> dict[str, np.ndarray]:
        time.sleep(0.001 * (sample % 3))  # finish out of order
        if sample % 7 == 3:
            raise BadSample(f"ü {sample}.jpg", "broken")
        return _load(sample)

    kept = [sample for sample in range(20) if sample % 7 != 3]
    expected = [Problem(f"ü {sample}.jpg", "broken") for sample in (3, 10, 17)]
    for loader in (load, _never):
        store, rows, problems = _build(tmp_path, loader, ram_limit_mb=ram_limit_mb)
        _check(store, kept)
        assert rows == kept
        assert problems == expected
    assert {path.name for path in _final(tmp_path).iterdir()} == {
        "meta.json",
        *(f"{field}.npy" for field in FIELDS),
    }


def test_nothing_left_and_nothing_given(tmp_path: Path) -> None:
    def load(sample: int) -> dict[str, np.ndarray]:
        raise BadSample(str(sample), "broken")

    for loader in (load, _never):
        store, rows, problems = _build(tmp_path, loader)
        assert (len(store), rows, len(problems)) == (0, [], 20)
    assert len(_build(tmp_path, samples=[])[0]) == 0
    fields = {"boxes": ((0, 4), "float32")}
    store, _, _ = build_store(
        [1, 2],
        lambda _: {"boxes": np.zeros((0, 4), np.float32)},
        fields,
        key={},
        cache_dir=tmp_path,
        ram_limit_mb=0,
        desc="",
    )
    assert store["boxes"].shape == (2, 0, 4)


def test_other_keys_fields_and_counts_are_other_caches(tmp_path: Path) -> None:
    calls = []

    def load(sample: int) -> dict[str, np.ndarray]:
        calls.append(sample)
        return _load(sample)

    _build(tmp_path, load, size=96, files=[("a", 1, 2)])
    _build(tmp_path, load, files=(["a", 1, 2],), size=96)  # the same as JSON
    assert len(calls) == 20
    _build(tmp_path, load, size=97, files=[("a", 1, 2)])
    _build(tmp_path, load, size=96, files=[("a", 1, 3)])
    assert len(calls) == 60
    _build(tmp_path, load, samples=range(19), size=96, files=[("a", 1, 2)])
    assert len(calls) == 79


@pytest.mark.parametrize(
    "change",
    [
        {"image": np.zeros((3, 4, 1), np.uint8)},  # would be broadcast
        {"image": np.full((3, 4, 5), 300, np.int64)},  # would wrap around
        {"more": np.zeros(1)},
    ],
)
def test_arrays_that_are_not_as_declared_are_refused(tmp_path: Path, change: Any) -> None:
    with pytest.raises(ValueError, match=r"load\(\) returned"):
        _build(tmp_path, lambda sample: _load(sample) | change)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_load_stops_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    calls = []

    def load(sample: int) -> dict[str, np.ndarray]:
        calls.append(sample)
        if sample == 0:
            raise RuntimeError("a mistake in the code")
        time.sleep(0.002)
        return _load(0)

    with pytest.raises(RuntimeError, match="a mistake"):
        _build(tmp_path, load, samples=range(2000))
    assert len(calls) < 1500
    assert list(tmp_path.iterdir()) == []


def test_loading_uses_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    meeting = threading.Barrier(3, timeout=10)

    def load(sample: int) -> dict[str, np.ndarray]:
        meeting.wait()
        return _load(sample)

    _check(_build(tmp_path, load, samples=range(3))[0], range(3))


# Damage, rivals, death


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _zero_header(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _other_shape(path: Path) -> None:
    np.save(path, np.zeros((20, 3, 4, 6), np.uint8))


def _other_type(path: Path) -> None:
    np.save(path, np.zeros((20, 3, 4, 5), np.int8))


class _Exploding:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was run",)


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Exploding()))


@pytest.mark.parametrize(
    "damage", [Path.unlink, _truncate, _zero_header, _other_shape, _other_type, _pickled]
)
def test_damaged_arrays_are_rebuilt(tmp_path: Path, damage: Any) -> None:
    _build(tmp_path)
    damage(_final(tmp_path) / "image.npy")
    with pytest.raises(AssertionError, match="cache was not used"):
        _build(tmp_path, _never)
    _check(_build(tmp_path)[0])
    _check(_build(tmp_path, _never)[0])
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"identity": 1}', "\udcff", "IDENTITY", "NO REJECTED"]
)
def test_damaged_meta_is_rebuilt(tmp_path: Path, text: Any) -> None:
    _build(tmp_path)
    meta = _final(tmp_path) / "meta.json"
    content = json.loads(meta.read_text())
    if text is None:
        meta.unlink()
    elif text == "IDENTITY":
        content["identity"]["key"] = {"set": "y"}
        meta.write_text(json.dumps(content))
    elif text == "NO REJECTED":
        meta.write_text(json.dumps({"identity": content["identity"], "rejected": [[1]]}))
    else:
        meta.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AssertionError, match="cache was not used"):
        _build(tmp_path, _never)
    _check(_build(tmp_path)[0])
    _check(_build(tmp_path, _never)[0])


def test_an_empty_directory_or_a_file_in_the_way(tmp_path: Path) -> None:
    _build(tmp_path)
    final = _final(tmp_path)
    for file in final.iterdir():
        file.unlink()
    _check(_build(tmp_path)[0])
    for file in final.iterdir():
        file.unlink()
    final.rmdir()
    final.write_text("a file")
    _check(_build(tmp_path)[0])
    _check(_build(tmp_path, _never)[0])


def _slow(sample: int) -> dict[str, np.ndarray]:
    time.sleep(0.01)
    return _load(sample)


def _build_in_process(cache_dir: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    store, rows, _ = _build(cache_dir, _slow, ram_limit_mb=0)
    _check(store)
    results.put(len(rows))


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_build_at_once_all_end_well(tmp_path: Path, damaged: bool) -> None:
    if damaged:
        _build(tmp_path)
        _truncate(_final(tmp_path) / "boxes.npy")
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    arguments = (tmp_path, barrier, results)
    builders = [context.Process(target=_build_in_process, args=arguments) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(30)
    assert [builder.exitcode for builder in builders] == [0] * 4
    assert [results.get(timeout=5) for _ in builders] == [20] * 4
    assert len(list(tmp_path.iterdir())) == 1
    _check(_build(tmp_path, _never)[0])


def test_the_slower_of_two_builders_uses_what_the_quicker_made(tmp_path: Path) -> None:
    """Deterministic: the rival publishes while this one is loading."""

    def load(sample: int) -> dict[str, np.ndarray]:
        if sample == 5:
            _build(tmp_path)
        return _load(sample)

    _check(_build(tmp_path, load, ram_limit_mb=0)[0])
    assert len(list(tmp_path.iterdir())) == 1


KILLED = """
import sys, time
from pathlib import Path
from tests.phasewise.data.test_store import _build, _load

def load(sample):
    if sample == 15:
        print("half way", flush=True)
        time.sleep(60)
    return _load(sample)

_build(Path(sys.argv[1]), load)
"""


def test_a_killed_build_is_no_cache(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(module.TEMPORARY)
    _check(_build(tmp_path)[0])
    _check(_build(tmp_path, _never)[0])
    assert left.exists()  # it might belong to a process that is at work
    long_ago = time.time() - 2 * module.STALE_SECONDS
    os.utime(left, (long_ago, long_ago))
    mine = tmp_path / ".mine.tmp"
    mine.mkdir()
    os.utime(mine, (long_ago, long_ago))
    _build(tmp_path, another="key")
    assert not left.exists()
    assert mine.exists()


# The directory


def test_a_cache_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for cache_dir in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(UserError, match=rf"data.cache_dir={cache_dir} cannot be written: .*"):
            _build(cache_dir, _never)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_dir_can_still_be_read(tmp_path: Path) -> None:
    _build(tmp_path)
    tmp_path.chmod(0o500)
    try:
        _check(_build(tmp_path, _never)[0])
        with pytest.raises(UserError, match="Permission denied"):
            _build(tmp_path, another="key")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="blocks cannot be reserved here")
def test_a_full_disk_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = module._allocate(tmp_path / "a.npy", (10, 2**20), np.dtype(np.uint8))
    status = (tmp_path / "a.npy").stat()
    assert status.st_blocks * 512 >= array.nbytes  # reserved, although nothing is written yet
    (tmp_path / "a.npy").unlink()

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        UserError, match=r"data\.cache_dir=.* cannot be written: No space left on device;"
    ):
        _build(tmp_path, _never)
    assert list(tmp_path.iterdir()) == []


def test_no_bar_where_standard_error_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_FOR_BAR", 0.0)
    _build(tmp_path)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _build(tmp_path, _slow, another="key")
    assert "train" in capsys.readouterr().err

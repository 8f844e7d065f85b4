"""Decoded samples of one split as tensors, kept on disk between runs."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from phasewise.augment.transfer import send
from phasewise.errors import CONTINUES, FAULTS, BadSample, Problem, StorageError, UserError
from phasewise.storage import check_room, storage_error

FORMAT = 2
"""Raised when the layout of a cache directory changes, so that older ones are not read."""

META = "meta.json"
TEMPORARY = ".phasewise-"
"""How the names of directories under construction begin."""

STALE_SECONDS = 24 * 3600
"""Half-built directories older than this are left from killed builds and are removed."""

ADVICE = (
    "a smaller data.image_size takes less space, data.cache_dir=DIR chooses another place for it"
)

WAIT_FOR_BAR = 2.0
"""Seconds before a progress bar appears."""

Sample = TypeVar("Sample")
Arrays = Mapping[str, npt.NDArray[Any]]
Fields = Mapping[str, tuple[Sequence[int], npt.DTypeLike]]


class Store:
    """An immutable mapping of field names to tensors with the same first dimension N.

    Args:
        tensors: at least one; all on one device.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        lengths = {field: len(tensor) for field, tensor in self._tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"fields need one common length, not {lengths}")

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(next(iter(self._tensors.values())))

    def __getitem__(self, field: str) -> Tensor:
        return self._tensors[field]

    def __contains__(self, field: object) -> bool:
        return field in self._tensors

    def keys(self) -> Iterator[str]:
        """The field names; with ``[]`` this makes ``dict(store)`` work."""
        return iter(self._tensors)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return next(iter(self._tensors.values())).device

    @property
    def nbytes(self) -> int:
        """Bytes of all fields together."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def gather(self, index: Tensor, fields: Iterable[str] | None = None) -> dict[str, Tensor]:
        """A copy of the rows ``index`` (B,) of some fields or all, on the store's device."""
        index = send(index, self.device)
        # on a CPU `index_select` copies whole rows: a fifth of the time of `[index]` for images
        return {
            name: self._tensors[name].index_select(0, index) for name in fields or self._tensors
        }

    def to(self, device: torch.device | str) -> Store:
        """The same rows on another device."""
        return Store({field: tensor.to(device) for field, tensor in self._tensors.items()})


def code_key(*modules: ModuleType) -> str:
    """What identifies code that draws or finds things in a cache key: other code, another cache."""
    texts = [Path(str(module.__file__)).read_bytes() for module in modules]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def build_store(
    samples: Sequence[Sample],
    load: Callable[[Sample], Arrays],
    fields: Fields,
    *,
    key: Mapping[str, Any],
    cache_dir: Path,
    ram_limit_mb: float,
    desc: str,
) -> tuple[Store, list[int], list[Problem]]:
    """The store of a split, from the cache or by loading every sample in a thread pool.

    Several processes may build the same store at once; the first one done is kept. A build that
    is killed leaves a temporary directory, never a cache. A damaged cache is rebuilt.

    Args:
        samples: in the order of the rows.
        load: makes the arrays of one sample, exactly ``fields``; called from several threads;
            may raise ``BadSample``.
        fields: shape (without N) and dtype by field name.
        key: JSON-able; whatever the arrays depend on: names and hashes of files, and settings.
        cache_dir: holds one directory per key.
        ram_limit_mb: larger stores stay on disk, memory-mapped (1 MB = 2**20 bytes).
        desc: names the progress bar, shown on a terminal if it takes a while.

    Returns:
        The store, the index in ``samples`` of each of its rows, and a problem for each sample
        that ``load`` refused.

    Raises:
        UserError: ``cache_dir`` cannot be written.
        StorageError: it has not as much room, or its disk fails.
    """
    shapes = {name: (tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in fields.items()}
    cache = _Cache(Path(cache_dir), _identity(key, shapes, len(samples)), shapes, len(samples))
    found = cache.read(cache.final)
    if found is None:
        found = _build(cache, samples, load, desc)
    arrays, rejected = found
    if sum(array.nbytes for array in arrays.values()) <= ram_limit_mb * 2**20:
        arrays = {name: np.array(array) for name, array in arrays.items()}
    store = Store({name: torch.from_numpy(array) for name, array in arrays.items()})
    rows = [row for row in range(len(samples)) if row not in rejected]
    return store, rows, list(rejected.values())


Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
Rejected = dict[int, Problem]
Found = tuple[dict[str, npt.NDArray[Any]], Rejected]


def _identity(key: Mapping[str, Any], shapes: Shapes, count: int) -> dict[str, Any]:
    """Everything that a cache directory must agree with, as JSON gives it back."""
    described = {name: [list(shape), dtype.str] for name, (shape, dtype) in shapes.items()}
    identity = {"format": FORMAT, "fields": described, "samples": count, "key": key}
    return json.loads(json.dumps(identity))


@dataclass
class _Cache:
    """One cache directory, named by the hash of its identity."""

    parent: Path
    identity: dict[str, Any]
    shapes: Shapes
    count: int

    @property
    def digest(self) -> str:
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def final(self) -> Path:
        return self.parent / self.digest

    @property
    def nbytes(self) -> int:
        """Of all arrays, if no sample is rejected."""
        rows = (math.prod(shape) * dtype.itemsize for shape, dtype in self.shapes.values())
        return self.count * sum(rows)

    def temporary(self) -> Path:
        """A new name beside ``final``; not ``mkdtemp``, which would shut out other users."""
        return self.parent / f"{TEMPORARY}{self.digest}-{uuid.uuid4().hex}"

    def read(self, directory: Path) -> Found | None:
        """The memory-mapped arrays and the rejected samples; None if absent or damaged."""
        try:
            meta = json.loads((directory / META).read_text(encoding="utf-8"))
            if meta["identity"] != self.identity:
                return None
            rejected = {int(row): Problem(file, why) for row, file, why in meta["rejected"]}
            kept = self.count - len(rejected)
            arrays = {name: self._map(directory, name, kept) for name in self.shapes}
        except Exception:  # damage can make the JSON and npy readers raise nearly anything
            return None
        return arrays, rejected

    def _map(self, directory: Path, name: str, kept: int) -> npt.NDArray[Any]:
        # Copy on write: torch wants writable memory, the file must never change.
        array = np.load(directory / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        shape, dtype = self.shapes[name]
        if array.shape != (kept, *shape) or array.dtype != dtype:
            raise ValueError(f"{name} has another shape or type")
        return array

    def publish(self, built: Path) -> None:
        """Give a complete directory its final name, unless somebody was quicker."""
        while True:
            try:
                built.rename(self.final)
                return
            except OSError:
                if not self.final.exists():
                    raise
            if self.read(self.final) is not None:
                _remove(built)
                return
            aside = self.temporary()
            try:
                self.final.rename(aside)
            except FileNotFoundError:
                continue  # another process moved the damaged one away
            _remove(aside)


def _build(
    cache: _Cache, samples: Sequence[Sample], load: Callable[[Sample], Arrays], desc: str
) -> Found:
    built = cache.temporary()
    try:
        with _blaming(cache.parent):
            cache.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(cache.parent)
            check_room(cache.parent, cache.nbytes, f"{desc} into data.cache_dir", ADVICE)
            built.mkdir()
            arrays = {
                name: _allocate(built / f"{name}.npy", (cache.count, *shape), dtype)
                for name, (shape, dtype) in cache.shapes.items()
            }
        rejected = _load_all(samples, load, arrays, desc)
        with _blaming(cache.parent):
            for name, array in arrays.items():
                _finish(built / f"{name}.npy", array, rejected)
            _write_meta(built / META, cache.identity, rejected)
            found = cache.read(built)
            if found is None:
                raise OSError("what was written reads back wrong")
            cache.publish(built)
    except BaseException:
        _remove(built)
        raise
    # If another process was quicker, share its files; ours stay readable while mapped.
    return cache.read(cache.final) or found


@contextmanager
def _blaming(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        exists = isinstance(error, FileExistsError)  # what should be a folder is a file
        reason = os.strerror(errno.ENOTDIR) if exists else error.strerror or str(error)
        full = error.errno in FAULTS
        raise (StorageError if full else UserError)(
            f"data.cache_dir={cache_dir} cannot be written: {reason}; {ADVICE}"
            + f"\n{CONTINUES}" * full
        ) from None


def _allocate(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A new memory-mapped file whose blocks are reserved.

    Writing to a mapped file on a full disk ends the process with a bus error; reserving first
    makes it an OSError here.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _load_all(
    samples: Sequence[Sample],
    load: Callable[[Sample], Arrays],
    arrays: dict[str, npt.NDArray[Any]],
    desc: str,
) -> Rejected:
    """Fill the rows of ``arrays``; rows of rejected samples are left as they are."""

    def fill(row: int) -> Problem | None:
        try:
            loaded = load(samples[row])
        except BadSample as bad:
            if (fault := storage_error(bad, [Path(bad.problem.file)])) is not None:
                raise fault from bad  # no fault of the sample, which may be whole
            return bad.problem
        _check(loaded, arrays)
        for name, array in arrays.items():
            array[row] = loaded[name]
        return None

    rejected: Rejected = {}
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        results = pool.map(fill, range(len(samples)))
        # disable=None: no bar where standard error is not a terminal.
        bar = tqdm(results, desc, len(samples), delay=WAIT_FOR_BAR, disable=None, leave=False)
        for row, problem in enumerate(bar):
            if problem is not None:
                rejected[row] = problem
    finally:
        pool.shutdown(cancel_futures=True)
    return rejected


def _check(loaded: Arrays, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Assignment alone would broadcast and cast silently."""
    got = {name: (array.shape, array.dtype) for name, array in loaded.items()}
    wanted = {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}
    if got != wanted:
        raise ValueError(f"load() returned {got}, not {wanted}")


def _finish(path: Path, array: npt.NDArray[Any], rejected: Rejected) -> None:
    """Drop the rejected rows and bring the file to the disk."""
    kept = [row for row in range(len(array)) if row not in rejected]
    if rejected:
        smaller = path.with_suffix(".kept")
        whole, array = array, _allocate(smaller, (len(kept), *array.shape[1:]), array.dtype)
        for row, source in enumerate(kept):
            array[row] = whole[source]
        smaller.replace(path)
    assert isinstance(array, np.memmap)
    array.flush()


def _write_meta(path: Path, identity: dict[str, Any], rejected: Rejected) -> None:
    rows = [[row, problem.file, problem.reason] for row, problem in rejected.items()]
    with path.open("w", encoding="utf-8") as file:
        json.dump({"identity": identity, "rejected": rows}, file)
        file.flush()
        os.fsync(file.fileno())


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _remove_stale(cache_dir: Path) -> None:
    for directory in cache_dir.glob(f"{TEMPORARY}*"):
        with suppress(OSError):  # another process may be removing it
            if time.time() - directory.stat().st_mtime > STALE_SECONDS:
                _remove(directory)

"""Which data a config reads, by their content; known without torch while nothing has changed.

The data themselves say it when they are listed (`StoreDataModule.identity`). What they looked at is
remembered in ``data.cache_dir`` beside the answer, so that the next question needs no more than to
see whether these files and folders still hold the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from phasewise.config.arguments import data_arguments
from phasewise.config.signatures import targets_of
from phasewise.records.content import UNSURE_SECONDS, Contents, digest, mark, read_json, write_json
from phasewise.records.trace import Trace

FOLDER = "identities"
"""Of ``data.cache_dir``."""

MANIFESTS = "samples"
"""Of ``data.cache_dir``: the samples of each split that was seen, by its hash."""

NOT_CONTENT = (
    "image_size",
    "image_size_schedule",
    "resize",
    "batch_size",
    "augment",
    "on_bad",
    "check",
    "cache_dir",
    "ram_limit_mb",
    "download",
)
"""Keys of ``data`` that decide how samples are used, not which they are; they need no new look."""

COMPARED_SPLITS = ("val", "test")
"""Splits by which configurations are compared."""

SHOWN = 3
"""So many samples a message names."""


@dataclass(frozen=True)
class DataIdentity:
    """The samples of each split.

    Attributes:
        hashes: of names, bytes and labels, by split.
        counts: of samples, by split.
        rejected: whether samples were left out that cannot be used.
    """

    hashes: Mapping[str, str]
    counts: Mapping[str, int] = field(default_factory=dict)
    rejected: bool = False

    @property
    def hash(self) -> str:
        """Of all splits."""
        return digest(dict(self.hashes))[:12]


class ListedData(Protocol):
    """What is asked of data that list their samples, e.g. a `StoreDataModule`."""

    @property
    def trace(self) -> Trace | None:
        """What was looked at to list them; None of data that are drawn."""

    def check_listed(self) -> None:
        """Raises a UserError if they cannot be used."""

    def identity(self) -> DataIdentity:
        """Which samples there are."""

    def manifest(self) -> Mapping[str, Mapping[str, str]]:
        """By split, a hash by the name of each sample."""


def data_key(data: Mapping[str, Any]) -> str:
    """The same for sections ``data`` that ask for the same samples."""
    asked = {key: value for key, value in data.items() if key not in NOT_CONTENT}
    if asked.get("root"):
        asked["root"] = os.path.realpath(Path(asked["root"]).expanduser())
    return digest(asked)


def cached_identity(data: Mapping[str, Any]) -> DataIdentity | None:
    """The answer of an earlier call, if all that it rests on is as it was; no torch.

    Args:
        data: the resolved section ``data`` of a config.
    """
    answer = read_json(_place(data))
    if answer is None or answer.get("code") != _code(_packages(data)):
        return None
    root = _root(data)
    try:
        if root is not None:
            now = _looked_at(root, data, answer["files"], answer["folders"])
            if now != answer["looked_at"]:
                return None
        return DataIdentity(answer["hashes"], answer["counts"], answer["rejected"])
    except (KeyError, TypeError):  # damaged
        return None


def data_identity(data: Mapping[str, Any], seed: int) -> DataIdentity | None:
    """`cached_identity`, or else from the data themselves, whose samples are listed for it.

    Args:
        data: as above.
        seed: the config's.

    Returns:
        ``None`` where it cannot be known: the data are still to be downloaded, or are a user's own
        and do not say it.

    Raises:
        UserError: the data cannot be used.
    """
    found = cached_identity(data)
    if found is not None and not (found.rejected and data["on_bad"] == "error"):
        return found
    root = _root(data)
    if data.get("download") and root is not None and not root.is_dir():
        return None
    from hydra.utils import get_class  # the data's own module brings torch

    module: ListedData = get_class(data["_target_"])(**data_arguments(data, seed))
    if not hasattr(module, "check_listed"):  # a user's own
        return module.identity() if hasattr(module, "identity") else None
    module.check_listed()
    identity = module.identity()
    remember_identity(data, module)
    return identity


def remember_identity(data: Mapping[str, Any], module: ListedData) -> None:
    """Keep the answer of data that have been listed, with what it rests on.

    Args:
        data: as above.
        module: made from it.
    """
    found, trace = module.identity(), module.trace
    for split, samples in module.manifest().items():
        place = _cache(data) / MANIFESTS / f"{found.hashes[split]}.json"
        if not place.exists():
            write_json(place, samples)
    if trace is not None and _written_since(trace):
        return
    answer: dict[str, Any] = {
        "hashes": dict(found.hashes),
        "counts": dict(found.counts),
        "rejected": found.rejected,
        "code": _code(_packages(data)),
    }
    if trace is not None:
        files, folders = sorted(trace.files), trace.folders()
        looked_at = _looked_at(trace.root, data, files, folders)
        answer |= {"files": files, "folders": folders, "looked_at": looked_at}
    write_json(_place(data), answer)


def _written_since(trace: Trace) -> bool:
    """Whether something may have been written, added or removed while it was read."""
    for name in (*trace.files, *trace.folders()):
        with suppress(OSError):
            if mark(trace.root / name)[2] / 1e9 > trace.start - UNSURE_SECONDS:
                return True
    return False


def _place(data: Mapping[str, Any]) -> Path:
    return _cache(data) / FOLDER / f"{data_key(data)}.json"


def _cache(data: Mapping[str, Any]) -> Path:
    return Path(data["cache_dir"]).expanduser()


def _root(data: Mapping[str, Any]) -> Path | None:
    return Path(data["root"]).expanduser() if data.get("root") else None


def _looked_at(root: Path, data: Mapping[str, Any], files: list[str], folders: list[str]) -> str:
    """A hash of the bytes of files and the entries of folders; of what is gone, that it is."""
    contents = Contents(root, _cache(data))
    found = hashlib.sha256()
    for name in files:
        try:
            held = contents.of(name)
        except OSError:
            held = "-"
        found.update(f"{name}\0{held}\n".encode(errors="surrogateescape"))
    contents.save()
    for name in folders:
        try:
            entries = sorted(os.listdir(os.path.join(root, name)))
        except OSError:
            entries = ["-"]
        found.update("\0".join([name, *entries, "\n"]).encode(errors="surrogateescape"))
    return found.hexdigest()[:32]


def _packages(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Those whose code reads or draws the data: of the data set, and of a reader that it names."""
    asked = {key: value for key, value in data.items() if key not in NOT_CONTENT}
    found = [str(target).partition(".")[0] for _, target in targets_of(asked)]
    return tuple(sorted({*found, "phasewise"}))


@cache
def _code(packages: tuple[str, ...]) -> str:
    """What tells one state of the code that reads or draws the data from another."""
    found = []
    for package in packages:
        spec = find_spec(package)
        if spec is None:
            continue
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
        for folder in spec.submodule_search_locations or []:
            place = Path(folder) / "data" if package == "phasewise" else Path(folder)
            files += sorted(place.rglob("*.py"))
        found += [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return digest(found)


def differences(before: DataIdentity, now: DataIdentity, cache_dir: Path) -> str:
    """Which splits differ, and in which samples if ``cache_dir`` remembers both."""
    lines = []
    for split in dict.fromkeys([*before.hashes, *now.hashes]):
        hashes = [one.hashes.get(split, "none") for one in (before, now)]
        if hashes[0] == hashes[1]:
            continue
        there, here = (one.counts.get(split, 0) for one in (before, now))
        text = f"{split}: {there} samples there, {here} now"
        old, new = (read_json(cache_dir / MANIFESTS / f"{name}.json") for name in hashes)
        if old is not None and new is not None:
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            which = ", ".join(names[:SHOWN]) + more if names else "their order"
            text += f" (what differs: {which})"
        lines.append(text)
    return "; ".join(lines)

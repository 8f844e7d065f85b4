"""``record.json``: what one run was, and what came of it.

Written when a run starts (status ``running``) and again when it ends, atomically both times, so
that a reader finds a whole record or none. A directory without a final record is unfinished,
whatever else it holds.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from phasewise.project import APPLICATION
from phasewise.records.notes import Notes
from phasewise.records.schema import FINAL, SCHEMA, STATUSES, Content, Status, validate
from phasewise.storage import write_whole

RECORD = "record.json"
DATA_MARK = "+"
"""Between the two parts of an `identity`."""

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "segmentation-models-pytorch",
    "timm",
)

_NUMBERS = re.compile(r"\[\n[-+.,e\d\s]+\]")
"""Lists of numbers only, which stand on one line."""

log = logging.getLogger(__name__)


def identity(fingerprint: str, data: str | None) -> str:
    """What a run is: the fingerprint of its config and the hash of its data, if that is known."""
    return fingerprint if data is None else f"{fingerprint}{DATA_MARK}{data}"


TRIED = "tried"
"""Under this name, the cost of a run says false where its end was inferred from another run's."""


@dataclass
class RunRecord:
    """The content of ``record.json``, field by field.

    Attributes:
        directory: where the run lives; not part of the file.
        objective: ``metric``, ``mode`` (``max`` or ``min``), and the best ``value`` and ``epoch``.
        best: every metric at the best epoch; ``last``: at the last one.
        test: metrics of the test split, ``None`` where it was not evaluated.
        baselines: metrics of trivial predictors on the same data, by the predictor's name.
        cost: seconds, memory, parameters and the like; of a running one, what its part before it
            was paused or interrupted has cost.
        data: counts, hash of the split, ``rejected`` and ``warnings``; of our own data also
            what they are, with numbers about each split (`phasewise.data.facts.about`).
        study: of a trial, the ``name`` of its study and its ``places`` there, each with ``phase``,
            ``number`` (from 1) and ``role`` (candidate, incumbent, final, start).
        headline: the metrics that a table shows first, without their split: ``mAP``; those that
            the run does not have are passed over.
        notes: what the task adds to reports that show the run.
        resampled: the objective of the weights that the run keeps, in resamples of the items of
            its validation data: ``metric``, ``unit`` (``images``), ``count`` of items, ``values``.
            The same data draw the same resamples in each run, so that runs compare in pairs
            (`phasewise.analysis.validation`). Empty where it was not measured.
        checkpoints: files of weights by name (``best``, ``last``), relative to the directory if
            they lie in it; empty for those of `phasewise.records.checkpoints`.
    """

    directory: Path
    task: str
    fingerprint: str
    overrides: list[str]
    seed: int | None
    objective: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    status: str = "running"
    error: str | None = None
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] | None = None
    baselines: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)
    headline: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    resampled: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the run ended in a way that would not change if it ran again."""
        return self.status in FINAL

    @property
    def was_tried(self) -> bool:
        """Whether it ran; else its end follows from that of another run, which ``error`` names."""
        return bool(self.cost.get(TRIED, True))

    @property
    def outcome(self) -> str:
        """The status as tables show it."""
        return self.status if self.was_tried else f"{self.status} (not tried)"

    @property
    def identity(self) -> str:
        """What `is_of` compares: the fingerprint of the config and, where it is known, that of the
        data."""
        return identity(self.fingerprint, self.data.get("hash"))

    @property
    def lacks_test_split(self) -> bool:
        """Whether its data are known to have none."""
        if "counts" in self.data:
            return not self.data["counts"].get("test", 0)
        return not self.data.get("has_test", True)

    def is_of(self, wanted: str) -> bool:
        """Whether this run computed what has the identity ``wanted``.

        Data count where both sides know theirs; a record of an older version does not.
        """
        config, _, data = wanted.partition(DATA_MARK)
        known = self.data.get("hash")
        return self.fingerprint == config and (not data or not known or data == known)

    @classmethod
    def start(
        cls,
        directory: str | Path,
        *,
        task: str,
        fingerprint: str,
        overrides: Sequence[str],
        seed: int | None,
        metric: str,
        mode: str,
        environment: Mapping[str, Any] | None = None,
        cost: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        study: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Write a record with status ``running``, replacing an earlier run's.

        Raises:
            UserError: if the directory cannot be made or written.
        """
        record = cls(
            directory=Path(directory),
            task=task,
            fingerprint=fingerprint,
            overrides=list(overrides),
            seed=seed,
            objective={"metric": metric, "mode": mode, "value": None, "epoch": None},
            environment=dict(environment or {}),
            cost=dict(cost or {}),
            data=dict(data or {}),
            study=dict(study or {}),
        )
        record.write()
        return record

    def finish(
        self,
        status: Status,
        *,
        error: str | None = None,
        value: float | None = None,
        epoch: int | None = None,
        best: Mapping[str, Any] | None = None,
        last: Mapping[str, Any] | None = None,
        test: Mapping[str, Any] | None = None,
        baselines: Mapping[str, Any] | None = None,
        cost: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Write how the run ended.

        Args:
            status: anything but ``running``.
            error: why it did not complete, in one or a few lines; the traceback is in ``run.log``.
            value: the objective at its best epoch.
            epoch: that epoch, counted from 1.
            best: metrics at that epoch; ``last``, ``test``, ``baselines``, ``cost`` as above.
            data: ``None`` keeps what was known at the start.

        Raises:
            UserError: if the record cannot be written.
        """
        if status not in STATUSES - {"running"}:
            raise ValueError(f"a run does not end with status {status!r}")
        self.status = status
        self.error = error
        self.objective |= {"value": value, "epoch": epoch}
        self.best, self.last = dict(best or {}), dict(last or {})
        self.test = None if test is None else dict(test)
        self.baselines, self.cost = dict(baselines or {}), dict(cost or {})
        if data is not None:
            self.data = dict(data)
        self.write()

    def as_dict(self) -> dict[str, Any]:
        """The file's content: plain containers; NaN and infinities as ``None``."""
        content = asdict(self)
        del content["directory"]
        first = {"schema": SCHEMA, "status": content.pop("status"), "error": content.pop("error")}
        return to_json(first | content)

    def write(self) -> None:
        """Replace ``record.json`` in one step.

        Raises:
            UserError: if the directory cannot be made or written.
            StorageError: its disk is full or fails.
        """
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
        write_whole(self.directory / RECORD, text)


def load_record(directory: str | Path) -> RunRecord:
    """The record of a run directory.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is none; the message says what is wrong.
    """
    content = {**validate(Content, (Path(directory) / RECORD).read_bytes())}
    del content["schema"]
    return RunRecord(directory=Path(directory), **content)  # type: ignore[arg-type]


def read_record(directory: str | Path) -> RunRecord | None:
    """The record of a run directory.

    Returns:
        ``None`` where there is none. A file that is damaged, or not a record of this schema, counts
        as none too, with a warning: the run is unfinished, which is all that a caller needs.
    """
    try:
        return load_record(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        path = Path(directory) / RECORD
        log.warning("%s is not a run record (%s); the run counts as unfinished", path, error)
        return None


def to_json(value: Any) -> Any:
    """In strict JSON's types: scalars of NumPy and torch as numbers, NaN and infinity ``None``."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return to_json(value.item())
    raise TypeError(f"a record cannot hold a {type(value).__name__}: {value!r}")


def environment() -> dict[str, Any]:
    """What a run depended on besides its config; nothing that names a host or a path.

    Returns:
        ``python``, the installed `PACKAGES` with their versions, ``git`` (see `git_commit`; of the
        repository that the running script lies in) and ``machine`` (e.g. ``x86_64``). The device
        is the caller's to add: only torch knows it.
    """
    repository = next((it for it in (APPLICATION, *APPLICATION.parents) if _has_git(it)), None)
    commit = None if repository is None else git_commit(repository)
    return _versions() | {"git": commit, "machine": platform.machine()}


@cache
def _versions() -> dict[str, Any]:
    """Looked for once: what a process has imported stays what it is."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _has_git(folder: Path) -> bool:
    return (folder / ".git").exists()


def git_commit(root: Path) -> str | None:
    """Short commit of the repository at ``root``, ``-dirty`` if tracked files changed since.

    ``None`` where ``root`` is no repository of its own, has no commit, or git is not installed.
    """
    if not _has_git(root):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

"""What a config makes a run compute, as a short hash. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from phasewise.config.signatures import TARGET, foreign_targets, is_foreign, source_file
from phasewise.records.checkpoints import checkpoint_file
from phasewise.records.content import Mark, mark

NOT_COMPUTATION = (
    "hydra",
    "study",
    "budget",
    "init_study",
    "logger",
    "figures",
    "test",
    "data.root",
    "data.cache_dir",
    "data.check",
    "data.ram_limit_mb",
    "data.download",
    "task.schema",
    "task.predictor",
    "task.worth_trying",
    "trainer.pause_after",
    "trainer.auto_accumulate",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_autolog_hparams",
    "trainer.log_every_n_steps",
    "trainer.train_metrics",
    "trainer.profiler",
    "trainer.detect_anomaly",
)
"""Keys of the config that a fingerprint leaves out: paths, logging, the study around a trial. Of
the data themselves their content counts, see `phasewise.config.identity`."""

WATCHING = tuple(
    f"{package}.callbacks.{name}"
    for package in ("lightning.pytorch", "pytorch_lightning")
    for name in (
        "DeviceStatsMonitor",
        "LearningRateMonitor",
        "ModelSummary",
        "RichModelSummary",
        "RichProgressBar",
        "ThroughputMonitor",
        "TQDMProgressBar",
    )
)
"""Callbacks that are known to change nothing; any other may."""

NOT_FILES = ("data", "hydra", "study", "task", "init_study")
"""Sections whose texts name no file that a run reads, or one that counts by its content elsewhere.
"""

ALWAYS_FILES = ("init_from", "pretrained")
"""Keys whose texts name a file or a folder also where they do not look like a path."""

WEIGHTS = "model.pretrained"
"""The one that may name a folder of weights, see `phasewise.config.weight_files`."""


def fingerprint(cfg: Mapping[Any, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over what the config makes a run compute.

    Interpolations are resolved, the order of keys does not count, `NOT_COMPUTATION` is left out.
    Numbers count by value and type: ``1e-3`` is ``0.001``, but ``1`` is not ``1.0``, which
    ``trainer.limit_train_batches`` (one batch, all batches) tells apart. A text that names a file
    (``init_from``, ``model.pretrained``) counts by the file's content, and so does the file that
    holds the code of a part of somebody's own.
    """
    plain = computed(cfg)
    code: dict[str, str | None] = {}
    for file in named_files(plain, cfg):
        held = file_hash(file.path)
        if file.is_code:
            code[file.key] = held
        elif held is not None:
            *parents, last = file.key.split(".")
            node: Any = plain
            for parent in parents:
                node = node[parent]
            node[last] = {"sha256": held}
    plain |= {"code": code} if code else {}
    return config_digest(plain)


def config_digest(content: Any) -> str:
    """16 hexadecimal digits of SHA-256 over plain containers; the order of keys does not count."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drop_key(plain: Any, key: str) -> None:
    """Take a dotted key out of nested dicts, if it is there."""
    *parents, last = key.split(".")
    for parent in parents:
        plain = plain.get(parent) if isinstance(plain, dict) else None
    if isinstance(plain, dict):
        plain.pop(last, None)


def computed(cfg: Mapping[Any, Any]) -> dict[Any, Any]:
    """The resolved config without `NOT_COMPUTATION`."""
    plain = plain_config(cfg)
    data = plain.get("data")
    unknown = isinstance(data, dict) and TARGET in data and is_foreign(data[TARGET])
    for key in NOT_COMPUTATION:
        if unknown and key == "data.root":
            continue  # foreign data may have no identity: then their place is all that tells them
        drop_key(plain, key)
    callbacks = plain.pop("callbacks", None) or {}
    kept = {key: it for key, it in callbacks.items() if it.get("_target_") not in WATCHING}
    return plain | ({"callbacks": kept} if kept else {})  # as before there were any


class NamedFile(NamedTuple):
    """What a config names as a file, whether or not there is one.

    Attributes:
        key: dotted, of the text or of the part.
        path: the text; of a part, where its code lies.
        is_code: whether the file holds the code of a part of somebody's own. Of installed packages
            the version counts, and is in the record.
    """

    key: str
    path: str
    is_code: bool = False


def named_files(
    plain: Mapping[Any, Any], whole: Mapping[Any, Any] | None = None
) -> list[NamedFile]:
    """The files that a config, of plain containers, names, and those of own code; of a folder of
    weights the file that is taken.

    Args:
        plain: a config.
        whole: the one that it is a part of, if that is not itself: its task knows names of weights.
    """
    sections = {key: value for key, value in plain.items() if key not in NOT_FILES}
    weights = _weights_in_folder(plain if whole is None else whole)
    texts = {key: str(text) for key, text in _texts(sections)}
    if weights is not None and WEIGHTS in texts:
        texts[WEIGHTS] = weights
    found = [NamedFile(key, text) for key, text in texts.items()]
    code = {key: source_file(target) for key, target in foreign_targets(plain).items()}
    return found + [NamedFile(key, str(it), True) for key, it in code.items() if it is not None]


def file_hashes(files: Iterable[NamedFile]) -> dict[str, str]:
    """The hashes of those that are there, by ``KEY=PATH``."""
    found = {f"{file.key}={file.path}": file_hash(file.path) for file in files}
    return {name: held for name, held in found.items() if held is not None}


def _texts(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{prefix}{key}.")
        elif key in ALWAYS_FILES:
            if value is not None and not isinstance(value, bool):
                yield f"{prefix}{key}", value
        elif isinstance(value, str) and not str(key).startswith("_") and like_a_path(value):
            yield f"{prefix}{key}", value


def _weights_in_folder(cfg: Mapping[Any, Any]) -> str | None:
    model = cfg.get("model")
    value = model.get("pretrained") if isinstance(model, Mapping) else None
    if not isinstance(value, str) or not Path(value).expanduser().is_dir():
        return None
    from phasewise.config.schema import weights_of  # pydantic takes a while

    found = weights_of(plain_config(cfg))
    return None if found is None else str(found)


def like_a_path(text: str) -> bool:
    """Whether a text may name a file."""
    return "." in text or os.sep in text


def file_hash(path: str) -> str | None:
    """The hash of a file, or of the best checkpoint in a run's directory; ``None`` if there is
    none."""
    try:
        file = checkpoint_file(path)
        return _hash(file.resolve(), mark(file)) if file.is_file() else None
    except (OSError, ValueError):  # a text that is no path, or too long for one
        return None


@lru_cache
def _hash(path: Path, state: Mark) -> str:
    """Read once while nothing touches the file: a study asks a thousand times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_config(cfg: Mapping[Any, Any]) -> dict[Any, Any]:
    """The resolved config as plain containers, without Hydra's own node."""
    if not OmegaConf.is_dict(cfg):
        return deepcopy({key: item for key, item in cfg.items() if key != "hydra"})
    if "hydra" in cfg:  # before a job has its number, it cannot be resolved
        cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])  # type: ignore[arg-type]
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return container

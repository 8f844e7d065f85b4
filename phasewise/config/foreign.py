"""The config of an application that is not this project's: what its jobs compute, as a hash.

Nothing is known of its keys. All count but Hydra's own, the study around a job, what only a job
that runs can tell (where its output goes, the time), and what the study is told to leave out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.config.fingerprint import config_digest, drop_key, file_hash, like_a_path
from phasewise.config.help import flatten
from phasewise.config.previous import differing_values
from phasewise.config.signatures import foreign_targets, source_file

HYDRA = "hydra"
STUDY = "study"
"""The sections around a job, of which it is told nothing; the second may be its own."""

CODE = "code"
"""Stands among the keys to be left out for the files that hold the application's code."""

_OF_JOB = re.compile(r"\$\{(hydra|now):")

Plain = dict[str, Any]


def plain_foreign(
    cfg: Mapping[Any, Any], ignored: Collection[str] = (), *, own_study: bool = False
) -> Plain:
    """The config as plain containers, resolved as far as can be before a job runs.

    Args:
        cfg: composed.
        ignored: keys, also of whole sections, that change nothing that is computed.
        own_study: whether a key ``study`` is the application's own and counts.
    """
    around = (HYDRA,) if own_study else (HYDRA, STUDY)
    kept = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in around])  # type: ignore[arg-type]
    raw: Any = OmegaConf.to_container(kept, resolve=False)
    for key in ignored:
        drop_key(raw, key)
    literal = _literal(raw)
    try:
        plain = OmegaConf.to_container(OmegaConf.create(literal), resolve=True)
    except OmegaConfBaseException:  # what it refers to is there in a job, or was left out
        plain = raw
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def foreign_fingerprint(plain: Plain, code: Collection[str] = ()) -> str:
    """16 hexadecimal digits of SHA-256 over a config and the files that it names.

    A text that names a file counts by the file's content, and so does the code of parts that it
    names by ``_target_``, as far as it is not an installed package's.

    Args:
        plain: from `plain_foreign`.
        code: more files whose content counts.
    """
    held = {key: file_hash(value) for key, value in flatten(plain).items() if _names_file(value)}
    files = {key: it for key, it in held.items() if it is not None}
    return config_digest([plain, files, sorted(str(file_hash(path)) for path in code)])


def code_files(plain: Plain) -> list[str]:
    """The files that hold the code of the parts that a config names."""
    found = (source_file(target) for target in foreign_targets(plain).values())
    return sorted({str(path) for path in found if path is not None})


def named_files(plain: Plain) -> list[str]:
    """The files that texts of a config name, whether or not there are any."""
    return sorted({value for value in flatten(plain).values() if _names_file(value)})


def foreign_difference(
    directory: Path, plain: Plain, ignored: Collection[str], *, own_study: bool = False
) -> dict[str, tuple[str, str]]:
    """Both values of the keys in which a run's saved config differs from ``plain``; none if no
    saved config tells."""
    try:
        saved = OmegaConf.load(directory / ".hydra" / "config.yaml")
        there = plain_foreign(saved, ignored, own_study=own_study)  # type: ignore[arg-type]
    except (OSError, ValueError, OmegaConfBaseException):
        return {}
    return differing_values(flatten(there), flatten(plain))


def _names_file(value: Any) -> bool:
    return isinstance(value, str) and like_a_path(value) and "\n" not in value


def _literal(node: Any) -> Any:
    """With texts that only a job can resolve as they are written."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    return node.replace("${", "\\${") if isinstance(node, str) and _OF_JOB.search(node) else node

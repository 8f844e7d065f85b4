"""What an earlier run has left in a directory, and whether it is the same run. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.config.fingerprint import (
    computed,
    file_hashes,
    fingerprint,
    named_files,
    plain_config,
)
from phasewise.config.help import flatten
from phasewise.config.identity import DataIdentity, data_identity, differences
from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.records.record import RunRecord, read_record
from phasewise.text import format_value

LENGTH = "trainer.max_epochs"

SHOWN = 4
"""So many keys that differ are named."""

OLDER = (
    "note: an older version has not recorded the content of its data; whether they are the same "
    "as now cannot be told"
)


def previous_run(directory: str | Path, cfg: Mapping[Any, Any]) -> RunRecord | None:
    """The record of an earlier run of this config and these data; ``None`` where there is none.

    A run that ended before its first epoch is no obstacle, whatever its config and data: it left
    nothing. Its data may have been mended since.

    Raises:
        UserError: the directory holds a run of another config, or of other data.
    """
    record = read_record(directory)
    if record is None:
        return None
    directory = Path(directory)
    if record.fingerprint != fingerprint(cfg):
        what = f"holds a run of other settings ({settings_difference(record, cfg)})"
    else:
        what = data_difference(record, cfg)
        if not what:
            return record
    if has_no_epochs(record):
        return None
    away = shlex.join(["mv", str(directory), f"{directory}.before"])
    ways = [f"hydra.run.dir=DIR chooses another place; or begin anew here after `{away}`"]
    if record.status == "completed" and [*(_differing(record, cfg) or ())] == [LENGTH]:
        word = shlex.quote(f"init_from={directory}")
        ways.append(f"to train on from its weights: {word} hydra.run.dir=DIR")
    raise UserError("\n".join([f"{directory}: {what}", *ways]))


def has_no_epochs(record: RunRecord) -> bool:
    """Whether a run ended before its first epoch; one that is said to be running may have been
    killed in it."""
    if record.status == "running":
        return not read_history(record.directory)
    return record.status != "completed" and not record.cost.get("epochs")


def data_difference(
    record: RunRecord, cfg: Mapping[Any, Any], found: DataIdentity | None = None
) -> str:
    """What a run's data and those of a config differ in; empty if they do not, or nobody knows.

    Args:
        record: of the run.
        cfg: composed.
        found: the identity of the config's data, if it is known already.

    Raises:
        UserError: the config's data cannot be used.
    """
    if record.data.get("hash") is None:
        return ""
    data = plain_config(cfg)["data"]
    found = found or data_identity(data, cfg["seed"])
    if found is None or found.hash == record.data["hash"]:
        return ""
    before = DataIdentity(record.data["hashes"], record.data["counts"])
    cache_dir = Path(data["cache_dir"]).expanduser()
    return f"holds a run of other data ({differences(before, found, cache_dir)})"


def settings_difference(record: RunRecord, cfg: Mapping[Any, Any]) -> str:
    """Which keys of a run's saved config and of another config differ, with both values."""
    found = _differing(record, cfg)
    if found is None:
        return " ".join(record.overrides) or "the defaults"
    if not found:
        named = file_hashes(named_files(computed(cfg), cfg))
        return f"what {' or '.join(named)} holds has changed since"
    return listed(found)


def listed(differing: Mapping[str, tuple[str, str]]) -> str:
    """The first of some keys with both values, for people."""
    lines = [f"{key}={there} there, {here} now" for key, (there, here) in differing.items()]
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join([*lines[:SHOWN], *rest])


def _differing(record: RunRecord, cfg: Mapping[Any, Any]) -> dict[str, tuple[str, str]] | None:
    """Both values by key; ``None`` where there is no saved config, or one that was edited."""
    try:
        saved = OmegaConf.load(record.directory / ".hydra" / "config.yaml")
        there = flatten(computed(saved))  # type: ignore[arg-type]
    except (OSError, ValueError, OmegaConfBaseException):
        return None
    return differing_values(there, flatten(computed(cfg)))


def differing_values(
    there: Mapping[str, Any], here: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Both values, as text, of the keys in which two flat configs differ."""
    keys = [key for key in {**there, **here} if there.get(key, here) != here.get(key, there)]
    return {key: (_shown(there, key), _shown(here, key)) for key in keys}


def _shown(side: Mapping[str, Any], key: str) -> str:
    return format_value(side[key]) if key in side else "not set"

"""What is known of a run before it begins: from Hydra, where one of its jobs runs here, else from
what a person says. Hydra is not imported for it: where it was not, none of its jobs runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from phasewise.errors import UserError
from phasewise.records.content import digest
from phasewise.records.current import current_record
from phasewise.records.record import RunRecord
from phasewise.text import format_value

AROUND = "study."
"""Overrides of a sweep that its trials are launched with and not made by."""

_PLAIN = re.compile(r"[A-Za-z_][\w./+-]*")
"""Texts that Hydra reads as they stand."""

_NOT_IN_KEYS = re.compile(r"[^\w.\-/]+")


@dataclass
class Job:
    """A run that is to begin.

    Attributes:
        directory: of the run; None where nobody has said it.
        task: what reports call the application.
        fingerprint: of what it computes; empty where nothing is known of that.
        overrides: in Hydra's grammar, one value each.
    """

    directory: Path | None
    task: str
    fingerprint: str = ""
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None


def find_job(
    directory: str | Path | None, config: Mapping[str, Any] | None, seed: int | None
) -> tuple[Job, RunRecord | None]:
    """What is known of the run that begins, with the record that a study has begun for it.

    Args:
        directory: as it was asked for; None leaves it to Hydra's job.
        config, seed: see `plain_job`; a study's trial is what the study says.

    Raises:
        UserError: nobody says where the run lies.
    """
    job, told = hydra_job(), current_record()
    if told is not None and directory in (None, told.directory, str(told.directory)):
        return Job(told.directory, told.task, told.fingerprint, told.overrides, told.seed), told
    if job is None or config is not None:
        place = job.directory if job else None
        job = plain_job(config, seed)
        job.directory = place
    if directory is not None:
        job.directory = Path(directory)
    if job.directory is None:
        raise UserError("Recorder: the first argument must be the directory of the run")
    if seed is not None:
        job.seed = seed
    return job, None


def hydra_job() -> Job | None:
    """The job of Hydra that runs in this process; None where none does.

    Its fingerprint is of the config that Hydra has saved beside it, without ``study`` and
    ``hydra``; interpolations count as they are written. Its seed is the config's ``seed``.
    """
    module = sys.modules.get("hydra.core.hydra_config")
    if module is None or not module.HydraConfig.initialized():
        return None
    settings = module.HydraConfig.get()
    if "output_dir" not in settings.runtime or settings.runtime.get("output_dir") is None:
        return None  # between jobs: a sweeper at work
    directory = Path(settings.runtime.output_dir)
    words = [str(word) for word in settings.overrides.task]
    own = [word for word in words if not word.lstrip("+~").startswith(AROUND)]
    config = _saved_config(directory, settings.output_subdir)
    content = {key: it for key, it in config.items() if key not in ("study", "hydra")} or own
    seed = config.get("seed")
    number = int(seed) if isinstance(seed, str) and re.fullmatch(r"\d+", seed) else None
    return Job(directory, str(settings.job.name), digest(content), own, number)


def plain_job(config: Mapping[str, Any] | None, seed: int | None) -> Job:
    """A run of a script of its own.

    Args:
        config: its settings, possibly nested; what is no number, text, list or mapping counts by
            the name of its class. None: not known.
        seed: of its random numbers; None takes ``config["seed"]``, if that is a number.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    flat = {key: _plain(value) for key, value in _flat(config or {})}
    found = flat.pop("seed", None)
    if seed is None and isinstance(found, int) and not isinstance(found, bool):
        seed = found
    mark = "" if config is None else digest({**flat, "seed": seed})
    words = [override_of(key, value) for key, value in flat.items()]
    return Job(None, Path(script).stem if script else "run", mark, words, seed)


def override_of(key: str, value: Any) -> str:
    """A setting as one would type it after a Hydra application's name.

    >>> override_of("optimizer.lr", 1e-3), override_of("name", "it's a"), override_of("a b", [1])
    ('optimizer.lr=0.001', "name='it\\\\'s a'", 'a_b=[1]')
    """
    return f"{_NOT_IN_KEYS.sub('_', key)}={_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_word(key)}:{_word(it)}" for key, it in value.items()) + "}"
    if not isinstance(value, str):
        return format_value(value)
    if _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null", "nan", "inf"):
        return value
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def _flat(config: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    named = value if hasattr(value, "__qualname__") else type(value)  # its repr has an address
    return f"{named.__module__}.{named.__qualname__}"


def _saved_config(directory: Path, folder: Any) -> dict[str, Any]:
    """All values as texts; empty where Hydra was told to save nothing."""
    if folder is None:
        return {}
    try:
        text = (directory / str(folder) / "config.yaml").read_text(encoding="utf-8")
        found = yaml.load(text, yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}

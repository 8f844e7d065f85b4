"""How a run's record begins, what the run still has to do, and how it ends if its process died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from phasewise.config.fingerprint import fingerprint, plain_config
from phasewise.config.signatures import foreign_targets
from phasewise.records.history import read_history
from phasewise.records.record import RunRecord, environment

AROUND = ("study.", "trainer.pause_after=")
"""Overrides of a sweep that its trials are launched with and not made by."""


AROUND_A_RUN = ("hydra", "study")
"""Sections that say nothing of a single run."""


def own_overrides(words: Sequence[str]) -> list[str]:
    """Of the overrides that a run was launched with, those that make its config."""
    return [word for word in words if not word.lstrip("+~").startswith(AROUND)]


def start_record(
    cfg: DictConfig,
    directory: Path,
    overrides: Sequence[str],
    *,
    device: str | None = None,
    cost: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Write the record of a run of ``cfg`` that begins; see `RunRecord.start`.

    Its environment lists the parts that do not come with the project by their keys, if any.
    """
    plain = plain_config(cfg)
    own = foreign_targets({k: it for k, it in plain.items() if k not in AROUND_A_RUN})
    return RunRecord.start(
        directory,
        task=cfg.task.name,
        fingerprint=fingerprint(cfg),
        overrides=overrides,
        seed=cfg.seed,
        metric=cfg.objective.metric,
        mode=cfg.objective.mode,
        environment=environment() | {"device": device} | ({"targets": own} if own else {}),
        cost=cost,
        data=data,
        study=(plain.get("study") or {}).get("trial"),
    )


def mark_failed(record: RunRecord, error: str) -> None:
    """Finish the record of a run whose process died, as failed; its epochs are in `metrics.csv`."""
    rows = read_history(record.directory)
    last = {key: value for key, value in rows[-1].items() if "/" in key} if rows else {}
    cost = record.cost | {"epochs": len(rows)}
    record.finish("failed", error=error, last=last, baselines=record.baselines, cost=cost)


def is_done(record: RunRecord, cfg: DictConfig, *, trial: bool) -> bool:
    """Whether ``cfg`` asks for nothing that the run of ``record``, of the same config, lacks."""
    if record.status == "paused":
        pause = cfg.trainer.pause_after
        return pause is not None and record.cost.get("epochs", 0) >= pause
    return record.status == "completed" and not lacks_test(record, cfg, trial=trial)


def lacks_test(record: RunRecord, cfg: DictConfig, *, trial: bool) -> bool:
    """Whether a run has completed without the look at its test split that ``cfg`` asks for."""
    wanted = (
        not record.lacks_test_split
        and wants_test(cfg, trial=trial)
        and not cfg.trainer.get("fast_dev_run")
    )
    return bool(record.status == "completed" and record.test is None and wanted)


def wants_test(cfg: DictConfig, *, trial: bool) -> bool:
    """Whether a run ends with a look at its test split; ``trial`` if it is part of a sweep."""
    return not trial if cfg.test == "auto" else cfg.test

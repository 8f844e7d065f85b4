"""Has the seeds of the final configuration scored, as one network too, by a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasewise.cli.shell import script, shell_command
from phasewise.project import module_environment
from phasewise.records.checkpoints import has_weights
from phasewise.records.record import RunRecord
from phasewise.study.saved_config import SavedConfig

FOLDER = "ensemble"
"""Below the folder of the test stage."""
INDEX = "evaluation.json"

log = logging.getLogger(__name__)


def read_ensemble(directory: Path, records: Sequence[RunRecord]) -> dict[str, Any] | None:
    """What an ensemble scored; None where there is none of exactly these runs.

    Args:
        directory: of the test stage.
        records: of the seeds.
    """
    try:
        content = json.loads((directory / FOLDER / INDEX).read_text(encoding="utf-8"))
        known = sorted(str(member["identity"]) for member in content["members"])
        if not isinstance(content["figures"], dict):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return content if known == sorted(record.identity for record in records) else None


def score_seeds(
    directory: Path, final: Sequence[RunRecord], start: Sequence[RunRecord], *, here: bool
) -> None:
    """Score the final configuration's seeds on test data: as one network, and, with those of the
    starting one, each by itself, for intervals over seeds and items. What is there is left.

    Args:
        directory: of the test stage.
        final: the records of its seeds, which were tested; ``start``: those of the other.
        here: whether this machine is where trials run; else the commands are told.
    """
    if len(final) < 2 or not all(has_weights(one.directory) for one in final):
        return
    commands = []
    alone = [it for it in (*final, *start) if has_weights(it.directory) and not _evaluated(it)]
    if alone:
        commands.append(_words(alone, []))
    if read_ensemble(directory, final) is None:
        output = (directory / FOLDER).absolute()
        commands.append(_words(final, ["ensemble=true", f"output={output}"]))
    if commands and here:
        log.info("\n[test] intervals, and the ensemble of %d seeds", len(final))
    for words in commands:
        if here:
            _run(words)
        else:
            log.info("\nto score the seeds: %s", shell_command(script("evaluate.py"), words))


def _words(records: Sequence[RunRecord], more: Sequence[str]) -> list[str]:
    places = ",".join(str(record.directory.absolute()) for record in records)
    own = [*_trusted(records[0]), f"accelerator={_accelerator(records[0])}"]
    return [f"checkpoint=[{places}]", *more, "figures=0", *own]


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phasewise.inference.evaluation", *words],
        env=module_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[0]
        log.warning("not scored: %s\n%s", reason, shell_command(script("evaluate.py"), words))


def _evaluated(record: RunRecord) -> bool:
    return (record.directory / "evaluation" / "test" / INDEX).is_file()


def _trusted(record: RunRecord) -> list[str]:
    """The study has run the code of these already."""
    targets = record.environment.get("targets") or {}
    return [f"trust=[{','.join(sorted(set(map(str, targets.values()))))}]"] if targets else []


def _accelerator(record: RunRecord) -> str:
    found = str(SavedConfig(record.directory).get("trainer.accelerator"))
    return found if found in ("cpu", "gpu", "mps") else "auto"

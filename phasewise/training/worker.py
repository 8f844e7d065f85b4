"""The process of one trial, see `phasewise.training.isolated`.

``python -m phasewise.training.worker JOB DIRECTORY``: ``JOB``, a YAML file, holds ``config``,
composed and resolved, the ``overrides`` that made it and Hydra's settings of ``logging``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from phasewise.cli.worker_process import end_with_parent
from phasewise.records.record import read_record
from phasewise.storage import storage_error

log = logging.getLogger(__name__)


def main(job: Path, directory: Path) -> int:
    """Train what ``job`` says.

    Returns:
        The exit code: 0 if the run completed or was paused, 74 if a disk is full or fails.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    end_with_parent()
    content = OmegaConf.load(job)
    assert isinstance(content, DictConfig)
    _log_to(directory, content.logging)
    try:
        from phasewise.training.run import train  # torch takes a while

        train(content.config, directory, overrides=list(content.overrides), trial=True)
    except KeyboardInterrupt:
        return 1
    except Exception as error:
        record = read_record(directory)
        if (full := storage_error(error, [directory])) is not None:
            if record is None or record.error != str(full):  # it could not be written
                log.error("%s", full)
            return os.EX_IOERR
        if record is None or not record.is_final:  # else it says why, and run.log where
            log.exception("the run ended early")
        return 1
    return 0


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _log_to(directory: Path, settings: DictConfig | None) -> None:
    """Log as Hydra does for runs in its own process; without Hydra, to the console and run.log."""
    if settings is not None:
        configure_log(settings)
    else:
        handlers: list[logging.Handler] = [
            logging.StreamHandler(sys.stdout),
            logging.FileHandler(directory / "run.log"),
        ]
        logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=handlers)
    logging.raiseExceptions = False  # where nobody reads on, a run goes on in silence


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

"""The process of one trial, see `phasewise.training.apart`.

``python -m phasewise.training.worker JOB DIRECTORY``: ``JOB``, a YAML file, holds ``config``,
composed and resolved, and the ``overrides`` that made it.
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf

from phasewise.project import ROOT
from phasewise.records.record import read_record
from phasewise.storage import storage_error

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


def main(job: Path, directory: Path) -> int:
    """Train what ``job`` says.

    Returns:
        The exit code: 0 if the run completed or was paused, 74 if a disk is full or fails.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    content = OmegaConf.load(job)
    assert isinstance(content, DictConfig)
    _log_to(directory)
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


def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended: nobody waits for it any more."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _log_to(directory: Path) -> None:
    """The console and run.log, as Hydra sets them up for runs in its own process."""
    settings = OmegaConf.load(ROOT / "conf" / "hydra" / "job_logging" / "phasewise.yaml")
    settings.handlers.file.filename = str(directory / "run.log")
    logging.config.dictConfig(OmegaConf.to_container(settings))  # type: ignore[arg-type]
    logging.raiseExceptions = False  # where nobody reads on, a run goes on in silence


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

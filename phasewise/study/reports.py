"""Has the report of a study written, in a process of its own: it shares nothing with training."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from phasewise.project import module_environment

PAGE = "report.html"

LAST_SECONDS = 600
"""Longest that the end of a study waits for its report."""

log = logging.getLogger(__name__)


class Reporter:
    """Runs ``python -m phasewise.report`` on a study's directory.

    Args:
        directory: of the study.
        wanted: whether there is to be a report at all.
    """

    def __init__(self, directory: Path, wanted: bool) -> None:
        self.directory = directory
        self.wanted = wanted
        self._process: subprocess.Popen[str] | None = None

    def update(self) -> None:
        """Write it beside the trials that go on, unless that is still being done."""
        if self.wanted and (self._process is None or self._process.poll() is not None):
            self._process = self._start()

    def finish(self) -> bool:
        """Write it once more, when nothing changes any longer, and say where it is.

        Returns:
            Whether it was written.
        """
        if not self.wanted:
            return False
        self.stop()
        process = self._process = self._start()
        try:
            _, errors = process.communicate(timeout=LAST_SECONDS)
        except subprocess.TimeoutExpired:
            errors = f"took more than {LAST_SECONDS} s"
        if process.returncode == 0:
            log.info("report  %s", self.directory / PAGE)
        else:
            log.warning("the report was not written: %s", errors.strip())
        self.stop()
        return process.returncode == 0

    def stop(self) -> None:
        """End what is running; a report replaces its files one by one, so none is left half."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "phasewise.report", str(self.directory)],
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the study, which then ends it
        )

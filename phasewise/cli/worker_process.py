"""A trial in a process that a launcher started: on a console that others write to as well."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

CONSOLE = "console.log"
"""What such a trial would have printed: the words of ``run.log``, warnings, those of a crash."""

POLL_SECONDS = 1.0


@contextmanager
def in_worker(directory: Path) -> Iterator[None]:
    """A trial in a launcher's process: its console goes into a file of ``directory``.

    Raises:
        Exception: what is raised inside; an error that cannot be sent to the study's process, which
            would end the launcher, becomes a RuntimeError with its words.
    """
    end_with_parent()
    _warned_once()
    try:
        with (
            (directory / CONSOLE).open("a") as console,
            _diverted(1, console.fileno()),
            _diverted(2, console.fileno()),
        ):
            yield
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


@contextmanager
def _diverted(descriptor: int, target: int) -> Iterator[None]:
    """What this process and its children write there goes elsewhere, that of C code included."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _warned_once() -> None:
    """Hear SLURM's warning that it will stop the job, which may come twice, only once.

    submitit answers it by putting the job back into the queue; a second one in the middle of that
    would end the job instead.
    """
    answer = signal.getsignal(signal.SIGUSR2)
    if not callable(answer):
        return

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        answer(number, frame)

    signal.signal(signal.SIGUSR2, once)


@cache  # once in a process, which may run many trials
def end_with_parent() -> None:
    """End this process soon after the one that started it: a study that was killed is no more.

    joblib's workers would go through their queue, on a device that the study's next call uses too.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)

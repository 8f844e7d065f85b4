"""Draws the figures of a report, on several processors where that is safe."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

from phasewise.errors import UserError
from phasewise.report.content import Figure, Picture
from phasewise.report.files import Folder, Image

FEW = 4
"""Figures for which a second process does not pay."""

MOST_PROCESSES = 4

Images = dict[str, Image]

log = logging.getLogger(__name__)


def render(folder: Folder, blocks: Sequence[Figure | Picture]) -> Images:
    """Write all of them and give what the pages show, by name.

    One that cannot be drawn is missing: it must not cost the rest of the report.

    Raises:
        UserError: the folder cannot be written.
    """
    count = max(1, min(processes(), MOST_PROCESSES, len(blocks) // FEW))
    own, *shares = [blocks[first::count] for first in range(count)]
    context = get_context("fork" if shares else None)
    helpers = []
    for share in shares:
        receiver, sender = context.Pipe(duplex=False)
        # each ends by itself when its share is done, whatever becomes of this process
        context.Process(target=_help, args=(folder, share, sender), daemon=True).start()
        sender.close()
        helpers.append((share, receiver))
    found = _draw(folder, own)
    for share, receiver in helpers:
        try:
            answer: Images | UserError = receiver.recv()
        except EOFError:  # it was killed
            answer = _draw(folder, share)
        if isinstance(answer, UserError):
            raise answer
        found |= answer
    return found


def processes() -> int:
    """How many may be used: a copy of a process with other threads could wait for them for ever."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


def _help(folder: Folder, share: Sequence[Figure | Picture], sender: Connection) -> None:
    try:
        sender.send(_draw(folder, share))
    except UserError as error:
        sender.send(error)


def _draw(folder: Folder, blocks: Sequence[Figure | Picture]) -> Images:
    found: Images = {}
    for block in blocks:
        try:
            image = folder.figure(block) if isinstance(block, Figure) else folder.picture(block)
        except UserError:
            raise
        except Exception as error:
            log.error("%s cannot be drawn (%s: %s)", block.name, type(error).__name__, error)
            continue
        if image is not None:
            found[block.name] = image
    return found

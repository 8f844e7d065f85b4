"""``predict.py``: from checkpoints and images to predictions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from phasewise.cli.script import run_script
from phasewise.errors import UserError, say
from phasewise.inference.prediction.settings import PredictionSettings
from phasewise.inference.prediction.sources import Item, list_images

if TYPE_CHECKING:
    from phasewise.inference.prediction.predictor import Predictor, Reader
    from phasewise.inference.restore import RunOf

OF_SOME = {"gallery", "top", "score", "tile", "overlap"}
"""Settings that not all tasks have."""


def main(run_of: RunOf, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse, check, predict, exit.

    Args:
        run_of: finds the run of a study, see `phasewise.inference.restore.find_checkpoint`.
        argv: the words of the command line; None takes them from ``sys.argv``.
    """
    run_script(PredictionSettings, partial(predict, run_of=run_of), argv)


def predict(
    settings: PredictionSettings, others: Sequence[str] = (), *, run_of: RunOf | None = None
) -> None:
    """Predict what the settings say and write it.

    Args:
        settings: checked.
        others: none: all its words are settings.
        run_of: see `main`.

    Raises:
        UserError: something cannot be read, used or written; nothing has been written then, unless
            the disk is full.
    """
    from phasewise.cli.main import check_directory
    from phasewise.inference.prediction.output import (
        INDEX,
        PredictionOutput,
        output_folder,
        results_in,
    )

    folder = output_folder(settings)
    check_directory("output", str(folder))
    items = list_images(settings.source, "source", results_in(folder))
    predictor = _predictor(settings, run_of)
    output = PredictionOutput(
        folder, [*(f"{name}.csv" for name in predictor.tables), *predictor.folders]
    )
    reader = _reader(predictor, items)
    content: dict[str, Any] = {"predictions": predictor.members[0].task, "status": "running"}
    output.index(content)
    entries, rows = predictor.run(items, reader, output)
    for name, columns in predictor.tables.items():
        output.table(name, columns, rows[name])
    content |= {
        "status": "completed",
        "checkpoints": [str(member.checkpoint) for member in predictor.members],
        "settings": settings.model_dump(exclude_unset=True, exclude={"checkpoint"}),
        **predictor.heading(),
        "images": entries,
        "skipped": [problem.as_dict() for problem in reader.problems],
    }
    output.index(content)
    if not entries:
        raise UserError("images cannot be read", reader.problems, "nothing is left to predict")
    written = [f"{name}/" for name in predictor.folders]
    written += [f"{name}.csv" for name in predictor.tables]
    count = f"{len(entries)} image" + "s" * (len(entries) > 1)
    say(f"{count} -> {folder}: {', '.join([INDEX, *written])}")
    if reader.problems:
        left_out = UserError("images were left out", reader.problems, f"{INDEX} lists all")
        print(f"{settings.SCRIPT}: {left_out}", file=sys.stderr)


def _predictor(settings: PredictionSettings, run_of: RunOf | None) -> Predictor:
    """The networks, on their device, as their task predicts with them."""
    from phasewise.data.resources import find_device
    from phasewise.inference.prediction.predictor import predictor_of
    from phasewise.inference.restore import restore_all
    from phasewise.training.memory import keep_freed_memory

    keep_freed_memory()
    members = restore_all(settings.checkpoint, run_of=run_of, trust=settings.trust)
    kind = predictor_of(members[0])
    foreign = sorted((settings.model_fields_set & OF_SOME) - kind.keys)
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: not for {members[0].checkpoint}, which is of task="
            f"{members[0].task}" + f"; that has {', '.join(sorted(kind.keys))}" * bool(kind.keys)
        )
    return kind(members, settings, find_device(settings.accelerator))


def _reader(predictor: Predictor, items: Sequence[Item]) -> Reader:
    """Under ``on_bad=error`` all images are decoded once before anything is written.

    Raises:
        UserError: one of them cannot be.
    """
    from phasewise.inference.prediction.predictor import Reader

    reader = Reader(predictor.reading)
    if predictor.settings.on_bad == "error":
        reader.check(predictor.sources(items))
        if reader.problems:
            advice = "mend or remove them, or predict the rest with on_bad=skip"
            raise UserError("images cannot be read", reader.problems, advice)
    return reader

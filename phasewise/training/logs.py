"""Where a run's words go: console, run.log, TensorBoard, trackers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch.nn.functional import interpolate

from phasewise.config.signatures import TARGET
from phasewise.config.targets import accepted, build
from phasewise.study.naming import parse_overrides
from phasewise.study.saved_config import SavedConfig, look_up
from phasewise.study.varied import VARIED
from phasewise.text import format_value
from phasewise.training.contract import Embedding
from phasewise.training.trackers import log_summary

SPRITE = 48
"""Side of the pictures in TensorBoard's projector, in pixels."""

CLOSING_SECONDS = 3.0
"""How long the events of a run that ended early may take to be written."""

_MISSING = object()

# Advice that is meant for other loaders: here they yield indices, and epochs are logged, not steps.
_NOT_FOR_US = (
    r".*does not have many workers.*",
    r".*`srun` command is available.*",  # on a cluster's login node, where studies are started
    r".*smaller than the logging interval.*",
    r".*exists and is not empty.*",
    r".*Trying to infer the `batch_size`.*",
    r".*sync_dist=True.*",  # what is logged per epoch is gathered from all ranks already
    r".*was called before the ``update``.*",  # by a rank whose shard is empty
    r".*LeafSpec.*deprecated.*",
    r".*ReduceLROnPlateau conditioned on metric.*",
    r".*Running in `fast_dev_run` mode.*",
    r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
)


@contextmanager
def without_lightning_output() -> Iterator[None]:
    """Keep Lightning's greetings and its advice for other set-ups off the console."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _NOT_FOR_US:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def log_traceback(error: BaseException) -> None:
    """Write the traceback into run.log, and nothing on the console."""
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("run", logging.ERROR, __file__, 0, "the run ended early", (), info)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)


class _TensorBoard(TensorBoardLogger):
    """Does not wait for ever for a writer that an interrupt has hit.

    Ctrl-C within the queue between TensorBoard and its writing thread can lose the thread's
    wake-up call; closing would then never return.
    """

    def finalize(self, status: str) -> None:
        if status != "failed":
            super().finalize(status)
            return
        closing = Thread(target=self._close, args=(status,), daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)

    def _close(self, status: str) -> None:
        with suppress(OSError):  # the full disk that ended the run, which says so
            super().finalize(status)


def build_loggers(
    config: Mapping[str, Mapping[str, Any]], task: str, directory: Path
) -> list[Logger]:
    """TensorBoard in ``directory``, and the loggers of the config beside it.

    Args:
        config: by a name, each with its `_target_`; one that writes files does so in ``directory``.
        task: its name, which trackers file the run under.
        directory: of the run.

    Raises:
        UserError: the package of one is not installed, or it cannot be made.
    """
    loggers: list[Logger] = [_TensorBoard(directory, name="", version="")]
    given = {"task": task, "directory": directory, "save_dir": str(directory)}
    for name, node in config.items():
        supplied = {key: given[key] for key in accepted(node[TARGET], given)}
        loggers.append(build(node, where=f"logger.{name}", kind=Logger, **supplied))
    return loggers


def close_loggers(loggers: list[Logger], status: str) -> None:
    """Write what loggers hold, and end them: Lightning goes on with a run of wandb that is open."""
    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish()  # `logger.experiment` would try once more to begin


def hyperparameters(
    config: Mapping[str, Any], overrides: Sequence[str], directory: Path
) -> dict[str, bool | int | float | str]:
    """What tells a run from others: the keys that its study varies; of a single run those typed.

    Args:
        config: of the run, plain containers.
        overrides: that made it.
        directory: where Hydra saved which file of a group was chosen.

    Returns:
        Numbers and texts by key; a key that the run does not have is missing.
    """
    typed = [one.key_or_group for one in parse_overrides(overrides)]
    keys = look_up(config, VARIED, typed)
    choices = SavedConfig(directory).choices
    found: dict[str, bool | int | float | str] = {}
    for key in keys:
        value = look_up(config, key, _MISSING)
        if isinstance(value, Mapping):
            value = choices.get(key, value)  # the file of a group
        if value is not _MISSING:
            is_number = isinstance(value, bool | int | float)
            found[key] = value if is_number else format_value(value)
    return found


def log_hyperparameters(
    loggers: list[Logger],
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    shown: Collection[str],
) -> None:
    """Enter a completed run into TensorBoard's HParams tab, which wants the same keys from all.

    Trackers get all metrics; they were told the config when the run began.

    Args:
        loggers: of the run.
        settings: see `hyperparameters`.
        metrics: of the best epoch.
        shown: the names of those that get a column in the tab.
    """
    columns = {name: value for name, value in metrics.items() if name in shown}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), columns)
    log_summary(loggers, metrics)


def log_embedding(board: TensorBoardLogger, embedding: Embedding) -> None:
    """Enter images and their features into TensorBoard's projector."""
    pictures = interpolate(embedding.images.float() / 255, size=SPRITE, mode="area")
    labels = [str(label) for label in embedding.labels]
    board.experiment.add_embedding(embedding.features, labels, pictures, tag="validation")

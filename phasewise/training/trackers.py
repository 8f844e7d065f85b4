"""Trackers beside TensorBoard: Weights & Biases and MLflow, imported only if one is chosen."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from phasewise.errors import UserError
from phasewise.project import install_command
from phasewise.storage import storage_error, write_whole

ADVICE = {
    "wandb": "`wandb login` once, or WANDB_MODE=offline keeps it on this machine",
    "mlflow": "MLFLOW_TRACKING_URI names a server or database; without it the run has its own",
}

TRACKER_ID = ".run-id"
"""How the names of files in a run's directory end that keep its id in a tracker: with it, a run
that is taken up again is the same run there."""

TITLE = 128
"""Most characters of a run's name in Weights & Biases."""


def wandb_logger(task: str, directory: Path) -> Logger:
    """`build_tracker` of Weights & Biases, by a name for configs."""
    return build_tracker("wandb", task, directory)


def mlflow_logger(task: str, directory: Path) -> Logger:
    """`build_tracker` of MLflow, by a name for configs."""
    return build_tracker("mlflow", task, directory)


def build_tracker(name: str, task: str, directory: Path) -> Logger:
    """The tracker ``wandb`` or ``mlflow``; what it writes here lies in ``directory``.

    With the id that an earlier part of the run has left there, it goes on with that one.

    MLflow gets a database of the run's own unless MLFLOW_TRACKING_URI names another: several
    processes cannot share one on a file system of a cluster.

    Raises:
        UserError: its package is not installed.
    """
    if find_spec(name) is None:
        raise UserError(f"logger={name}: not installed; {install_command(name)}, or logger=none")
    project, title = f"phasewise-{task}", "/".join(directory.absolute().parts[-2:])[-TITLE:]
    if name == "wandb":
        import wandb

        quiet = wandb.Settings(quiet=True)  # else it repeats the metrics at the end
        own = _known_id(directory, name) or _keep_id(directory, name, uuid4().hex[:8])
        return WandbLogger(
            title, save_dir=directory, project=project, settings=quiet, id=own, resume="allow"
        )
    import mlflow  # noqa: F401  sets its logger's level

    for talker in ("mlflow", "lightning.pytorch.loggers.mlflow"):  # of tables that it creates
        logging.getLogger(talker).setLevel(logging.ERROR)
    place = directory.absolute()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    artifacts = None if given else str(place / "mlartifacts")
    uri = given or f"sqlite:///{place}/mlflow.db"
    known = _known_id(directory, name)
    return _MLFlow(directory, known, project, title, tracking_uri=uri, artifact_location=artifacts)


def _known_id(directory: Path, name: str) -> str | None:
    with suppress(OSError):
        return (directory / f".{name}{TRACKER_ID}").read_text("utf-8").strip() or None
    return None


def _keep_id(directory: Path, name: str, known: str) -> str:
    write_whole(directory / f".{name}{TRACKER_ID}", known)
    return known


class _MLFlow(MLFlowLogger):
    """Goes on with the run that an earlier process began, where the server still has it."""

    def __init__(self, directory: Path, known: str | None, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.directory, self.known = directory, known

    def begin(self, config: Mapping[str, Any]) -> None:
        """Open the run, and tell it the config if it is a new one: a parameter has one value."""
        if self.known is not None and self._is_there(self.known):
            self._run_id = self.known
            self.experiment.update_run(self.known, status="RUNNING")
        elif (run := self.run_id) is not None:  # this is the first device
            _keep_id(self.directory, "mlflow", run)
            self.log_hyperparams(dict(flat(config)))

    def _is_there(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            found = self._mlflow_client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return found.info.lifecycle_stage == "active"


def start_trackers(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Tell trackers the config, so that also a run that fails can be found by it.

    Args:
        loggers: of a run.
        config: plain containers; MLflow gets it flat, by the keys of the command line.

    Raises:
        UserError: the tracker cannot be reached, or does not know who this is.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger | DummyLogger):  # it is told when the run ends
            continue
        name = "wandb" if isinstance(logger, WandbLogger) else "mlflow"
        if not isinstance(logger, WandbLogger | MLFlowLogger):
            name = type(logger).__name__
        try:
            if isinstance(logger, _MLFlow):
                logger.begin(config)
            else:
                logger.log_hyperparams(dict(config))
        except Exception as error:
            if storage_error(error) is not None:
                raise
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            advice = f"; {ADVICE[name]}" if name in ADVICE else ""
            raise UserError(f"logger={name}: {reason}{advice}") from error


def log_summary(loggers: Sequence[Logger], metrics: Mapping[str, float]) -> None:
    """Add values of the whole run, which are no curve."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(metrics))
        elif isinstance(logger, MLFlowLogger):
            logger.log_metrics(metrics)


def log_picture(loggers: Sequence[Logger], picture: Path, step: int) -> None:
    """Add a figure that was drawn, a PNG file."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            summary = Summary(value=[Summary.Value(tag=picture.stem, image=_encoded(picture))])
            logger.experiment._get_file_writer().add_summary(summary, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(f"figures/{picture.stem}", [str(picture)])
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_artifact(logger.run_id, str(picture), "figures")


def _encoded(picture: Path) -> Summary.Image:
    """As TensorBoard keeps pictures; its ``add_image`` would decode and encode it once more."""
    with Image.open(picture) as image:
        width, height = image.size
    content = picture.read_bytes()
    return Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with numbers and, for all else, texts."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float) else str(value)

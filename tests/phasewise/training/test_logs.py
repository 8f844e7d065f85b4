from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from phasewise.training.logs import (
    build_loggers,
    hyperparameters,
    log_hyperparameters,
    log_traceback,
    without_lightning_output,
)


@pytest.fixture
def run_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """As a run has it: the root logger writes into run.log and on the console, which is heard."""
    root = logging.getLogger()
    known, root.handlers = root.handlers, []
    root.addHandler(logging.FileHandler(tmp_path / "run.log"))
    root.addHandler(logging.StreamHandler())
    yield tmp_path / "run.log"
    for handler in root.handlers:
        handler.close()
    root.handlers = known


def _raised() -> ValueError:
    def deep_inside() -> None:
        raise ValueError("seven is no shape")

    try:
        deep_inside()
    except ValueError as error:
        return error
    raise AssertionError


def test_a_traceback_goes_into_run_log_only(
    run_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_traceback(_raised())
    text = run_log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "deep_inside" in text
    assert "ValueError: seven is no shape" in text
    assert capsys.readouterr() == ("", "")


def _events(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory))
    found.Reload()
    return found


def test_tensorboard_writes_into_the_run_directory(tmp_path: Path) -> None:
    (logger,) = build_loggers({}, "multitask", tmp_path)
    assert isinstance(logger, TensorBoardLogger)
    logger.log_metrics({"val/mIoU": 0.5}, step=3)
    logger.finalize("success")
    (event,) = _events(tmp_path).Scalars("val/mIoU")
    assert (event.step, event.value) == (3, 0.5)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


CONFIG = {
    "seed": 1,
    "model": {"backbone": "resnet18", "pretrained": False, "dropout_rate": 0.1},
    "data": {"augment": ["flip", {"scale": {"p": 1}}], "root": None},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-3},
    "study": {},
}


def test_hyperparameters_of_a_single_run_are_the_keys_that_were_typed(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    text = "hydra: {runtime: {choices: {optimizer: sgd, task: multitask}}}"
    (tmp_path / ".hydra" / "hydra.yaml").write_text(text)
    typed = ["optimizer=sgd", "seed=1", "data.augment=[flip,{scale:{p:1}}]", "data.root=null"]
    found = hyperparameters(CONFIG, [*typed, "~data.gone", "model.pretrained=false"], tmp_path)
    assert found == {
        "optimizer": "sgd",
        "seed": 1,
        "data.augment": "[flip,{scale:{p:1}}]",
        "data.root": "null",
        "model.pretrained": False,
    }
    assert hyperparameters(CONFIG, [], tmp_path) == {}


def test_hyperparameters_of_a_trial_are_the_keys_that_its_study_varies(tmp_path: Path) -> None:
    config = CONFIG | {"study": {"varied": ["optimizer.lr", "model.backbone"]}}
    found = hyperparameters(config, ["optimizer.lr=1e-3", "seed=1"], tmp_path)
    assert found == {"optimizer.lr": 1e-3, "model.backbone": "resnet18"}


def hparams_of(directory: Path) -> tuple[dict[str, object], list[str]]:
    """What TensorBoard's HParams tab shows of a run: values by key, names of metrics."""
    from tensorboard.plugins.hparams import metadata

    events = _events(directory)
    tags = (metadata.SESSION_START_INFO_TAG, metadata.EXPERIMENT_TAG)
    start, experiment = (events.SummaryMetadata(tag).plugin_data.content for tag in tags)
    values = {
        key: getattr(value, value.WhichOneof("kind"))
        for key, value in metadata.parse_session_start_info_plugin_data(start).hparams.items()
    }
    metrics = metadata.parse_experiment_plugin_data(experiment).metric_infos
    return values, [one.name.tag for one in metrics]


def test_hyperparameters_are_entered(tmp_path: Path) -> None:
    (logger,) = loggers = build_loggers({}, "multitask", tmp_path)
    metrics = {"best/val/mIoU": 0.25, "best/val/loss": 0.75}
    settings = {"optimizer.lr": 1e-3, "optimizer": "sgd", "seed": 1}
    log_hyperparameters(loggers, settings, metrics, {"best/val/mIoU", "best/val/mAP"})
    logger.finalize("success")
    events = _events(tmp_path)
    assert events.Scalars("best/val/mIoU")[0].value == 0.25
    assert [tag for tag in events.Tags()["scalars"] if tag.startswith("best/")] == ["best/val/mIoU"]
    assert hparams_of(tmp_path) == (settings, ["best/val/mIoU"])


def test_other_loaders_advice_stays_silent() -> None:
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with without_lightning_output():
            assert not lightning.isEnabledFor(logging.INFO)
            warnings.warn("The 'train_dataloader' does not have many workers which", stacklevel=1)
            warnings.warn("something new", stacklevel=1)
        warnings.warn("The 'train_dataloader' does not have many workers which", stacklevel=1)
    assert [str(w.message)[:9] for w in heard] == ["something", "The 'trai"]
    assert lightning.level == level


def test_levels_come_back_after_an_error() -> None:
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    with pytest.raises(ValueError, match="x"), without_lightning_output():
        raise ValueError("x")
    assert lightning.level == level

"""Arguments of Lightning's Trainer, and foreign callbacks, in runs: it works, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from phasewise.config.open_keys import open_words
from phasewise.errors import UserError
from phasewise.records.history import Row, read_history
from phasewise.training.run import train
from tests.conftest import TINY_RUNS

Make = Callable[..., DictConfig]

PLATEAU = "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau scheduler.patience=0"
KEEP = "callbacks.keep._target_=lightning.pytorch.callbacks.ModelCheckpoint"
STOP = "callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping"
TINY = ("task=segmentation", *TINY_RUNS["segmentation"], "test=false", "trainer.accelerator=cpu")


def config(make: Make, words: str) -> DictConfig:
    """Of words as on a command line, which knows where a plus is needed."""
    given = words.split()
    keys = {word.partition("=")[0] for word in given}
    known: dict[str, dict[str, str]] = {"trainer": {}, "scheduler": {}, "callbacks": {}}
    tiny = [word for word in (*TINY, "trainer.max_epochs=2") if word.partition("=")[0] not in keys]
    return make(*tiny, *open_words([given], known)[0])


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Callable[..., list[Row]]:
    """The rows of a run."""

    def call(words: str) -> list[Row]:
        train(config(make_config, words), tmp_path / "run")
        rows = read_history(tmp_path / "run")
        return [{k: it for k, it in row.items() if k != "seconds"} for row in rows]

    return call


@pytest.fixture(scope="module")
def plain(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Without any of them."""
    folder = tmp_path_factory.mktemp("plain")
    train(config(make_config, ""), folder)
    return [{k: it for k, it in row.items() if k != "seconds"} for row in read_history(folder)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "trainer.inference_mode=false",
        "trainer.sync_batchnorm=true",
        "trainer.num_sanity_val_steps=2",
        "trainer.num_sanity_val_steps=-1",
        "trainer.val_check_interval=1.0",
        "trainer.deterministic=true",
        "trainer.detect_anomaly=true",
        "trainer.log_every_n_steps=1",
        "trainer.enable_autolog_hparams=false",
        "trainer.enable_model_summary=true",
        "trainer.min_steps=3",
        "trainer.min_epochs=2",
        f"{KEEP} callbacks.keep.monitor=val/jaccard",
    ],
)
def test_what_changes_no_figure(
    words: str, run: Callable[..., list[Row]], plain: list[Row]
) -> None:
    assert list(map(repr, run(words))) == list(map(repr, plain))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps", "validated"),
    [
        ("trainer.overfit_batches=1", [1, 2], [True, True]),
        ("trainer.check_val_every_n_epoch=2", [2, 4], [False, True]),
        ("trainer.accumulate_grad_batches=2", [1, 2], [True, True]),
        ("trainer.limit_train_batches=1", [1, 2], [True, True]),
        ("trainer.gradient_clip_val=0.01", [2, 4], [True, True]),
        ("trainer.max_steps=3 trainer.max_epochs=9", [2, 3], [True, True]),
        (f"{STOP} callbacks.stop.monitor=train/loss callbacks.stop.patience=1", [2, 4], [True] * 2),
    ],
)
def test_what_changes_the_steps(
    words: str, steps: list[int], validated: list[bool], run: Callable[..., list[Row]]
) -> None:
    rows = run(words)
    assert [row["step"] for row in rows] == steps
    assert ["val/jaccard" in row for row in rows] == validated


@pytest.mark.slow
def test_a_foreign_plateau_goes_by_the_metric(run: Callable[..., list[Row]]) -> None:
    """In the mode min the first value of a metric that rises stays the best."""
    words = f"{PLATEAU} scheduler.mode=min scheduler.factor=.1 scheduler.threshold=0"
    first, *rest = run(f"{words} trainer.max_epochs=4")
    assert first["lr"] == pytest.approx(3e-3)
    best, rate, expected = first["val/jaccard"], 3e-3, []
    for row in rest:  # a row has the rate of its epoch; what it shows counts for the next one
        expected.append(rate)
        worse = row["val/jaccard"] >= best
        best, rate = min(best, row["val/jaccard"]), rate * (0.1 if worse else 1)
    assert [row["lr"] for row in rest] == pytest.approx(expected)
    assert rate < 3e-3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            f"{PLATEAU} scheduler.interval=step",
            "scheduler.interval=step: must be epoch: the metric",
        ),
        (f"{PLATEAU} scheduler.frequency=2", "scheduler.frequency=2: must be 1: the metric"),
        ("trainer.overfit_batches=0.5", "must be a whole number >= 0"),
        ("trainer.val_check_interval=2", "a row of metrics.csv and a checkpoint are of a whole"),
        ("trainer.reload_dataloaders_every_n_epochs=1", "draw anew in each epoch themselves"),
        ("trainer.use_distributed_sampler=true", "share out their rows among devices themselves"),
    ],
)
def test_what_is_refused_at_once(words: str, told: str, make_config: Make) -> None:
    with pytest.raises(UserError) as error:
        config(make_config, words)
    assert told in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            f"{PLATEAU} scheduler.monitor=val/nothing",
            "scheduler.monitor=val/nothing: no such metric",
        ),
        (
            f"{KEEP} callbacks.keep.every_n_epochs=1",
            "callbacks: a checkpoint cannot tell two of Mod",
        ),
        (
            f"{KEEP} callbacks.keep.monitor=val/x",
            "`ModelCheckpoint(monitor='val/x')` could not fin",
        ),
        (
            f"{STOP} callbacks.stop.monitor=val/x",
            "Early stopping conditioned on metric `val/x` which is not available.",
        ),
    ],
)
def test_what_a_run_finds_out_is_one_line(
    words: str, told: str, run: Callable[..., list[Row]]
) -> None:
    with pytest.raises(UserError) as error:
        run(words)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)

"""What people of Hydra and Lightning type, with parts of anybody's: it works, or says why not."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from hydra import initialize_config_dir

from phasewise.config.command_line import CommandLine
from phasewise.config.fingerprint import fingerprint
from phasewise.config.schema import check_config
from phasewise.config.signatures import TargetError, signature_of, trainer_arguments
from phasewise.config.trainer_schema import ELSEWHERE, Arguments, Trainer
from phasewise.errors import UserError
from phasewise.records.history import read_history
from tests import forks
from tests.conftest import ROOT, TINY
from tests.forks import Done

SWA = "lightning.pytorch.callbacks.StochasticWeightAveraging"
STEP_LR = "scheduler._target_=torch.optim.lr_scheduler.StepLR"
CPU = ("trainer.accelerator=cpu", "test=false")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's own, with a package that the project does not know."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "tests" / "outside", folder / "outside")
    return folder


@pytest.fixture
def train(home: Path, cache: Path, tmp_path: Path) -> Any:
    """`python train.py` in that folder, on tiny data; the run is in ``tmp_path / "run"``."""

    def call(*words: str, place: str = "run") -> Done:
        where = (f"data.cache_dir={cache}", f"hydra.run.dir={tmp_path / place}")
        known = _keys(words)
        tiny = [word for word in (*TINY, *CPU) if word.partition("=")[0] not in known]
        if "data._target_" in known:  # which does not take these
            tiny = [word for word in tiny if not word.startswith("data.")]
        command = [str(ROOT / "train.py"), *tiny, *where, *words]
        return forks.training().run(command, home, {"PYTHONPATH": str(home)})

    return call


def _keys(words: tuple[str, ...]) -> set[str]:
    return {word.partition("=")[0] for word in words}


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


def refused(*words: str) -> str:
    """What is said of a command line, by the checks that precede anything else."""
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(UserError) as error,
    ):
        check_config(CommandLine(words, ROOT / "conf", "config").compose(False)[0])
    return str(error.value)


def composed(*words: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg, _ = CommandLine(words, ROOT / "conf", "config").compose(False)
    check_config(cfg)
    return cfg


def test_lightnings_arguments_are_read_as_python_knows_them() -> None:
    real = inspect.signature(L.Trainer).parameters
    assert [(it.name, it.kind, it.default) for it in trainer_arguments().values()] == [
        (it.name, it.kind, it.default) for it in real.values()
    ]
    known = {*Arguments.model_fields, *Trainer.model_fields, *ELSEWHERE}
    assert real.keys() <= known
    assert known - real.keys() == {*Trainer.OURS}


@pytest.mark.parametrize(
    "target",
    [
        SWA,
        "lightning.pytorch.loggers.CSVLogger",
        "torch.optim.NAdam",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
    ],
)
def test_arguments_that_are_read_are_those_of_the_class(target: str) -> None:
    module, _, name = target.rpartition(".")
    real = inspect.signature(getattr(__import__(module, fromlist=[name]), name)).parameters
    found = signature_of(target).parameters
    assert [(it.name, it.kind) for it in found.values()] == [
        (it.name, it.kind) for it in real.values()
    ]


def test_a_new_argument_of_lightnings_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    new = inspect.Parameter("new", inspect.Parameter.KEYWORD_ONLY, default=None)
    known = trainer_arguments() | {"new": new}
    monkeypatch.setattr("phasewise.config.trainer_schema.trainer_arguments", lambda: known)
    monkeypatch.setattr("phasewise.config.open_keys.trainer_arguments", lambda: known)
    assert composed("trainer.new=3").trainer.new == 3
    assert "did you mean trainer.new?" in refused("trainer.neww=3")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trainer.max_epoch=3", "trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        (
            f"+callbacks.swa._target_={SWA} +callbacks.swa.swa_lr=1",
            f"callbacks.swa.swa_lr=1: {SWA} takes no such argument; did you mean swa_lrs?",
        ),
        (f"+callbacks.swa._target_={SWA}", "callbacks.swa.swa_lrs: must be given"),
        (
            "+callbacks.swa.swa_lrs=1",
            "callbacks.swa: a class must be given: callbacks.swa._target_",
        ),
        (
            f"+callbacks.swa._target_={SWA}s",
            "has no StochasticWeightAveragings; did you mean Stoch",
        ),
        ("+callbacks.x._target_=nobody.Has", "callbacks.x._target_=nobody.Has: no package nobody"),
        ("callbacks=[swa,lrmonitor]", "callbacks=lrmonitor: not one of"),
        ("logger=wanb", "logger=wanb: not one of csv, mlflow, none, wandb; did you mean wandb?"),
        ("optimizer._target_=torch.optim.Nadam", "torch.optim has no Nadam; did you mean NAdam?"),
        (
            "optimizer._target_=torch.optim.LBFGS",
            "~optimizer.weight_decay leaves it out",
        ),
        (STEP_LR, "scheduler.step_size: must be given"),
        (f"{STEP_LR} scheduler.step_sice=1", "did you mean step_size?"),
        (
            f"{STEP_LR} scheduler.step_size=1 scheduler.warmup_fraction=.2",
            "scheduler.warmup_fraction=.2: belongs to scheduler=onecycle, whose place",
        ),
        (f"{STEP_LR} scheduler.step_size=1 scheduler.interval=day", "not one of epoch, step"),
        ("trainer.logger=false", "trainer.logger=false: loggers are a group: logger=wandb"),
        ("trainer.barebones=true", "leaves out what a run is kept by"),
        ("trainer.num_nodes=2", "a run is of one machine"),
        ("trainer.val_check_interval=0.5", "a row of metrics.csv and a checkpoint are of a whole"),
        ("trainer.enable_checkpointing=false", "a run keeps its best epoch by checkpoints"),
        ("trainer.max_time=5", "must be DD:HH:MM:SS in quotes"),
        ("trainer.max_steps=0", "must be a whole number >= 1, or -1 for no limit"),
        ("trainer.profiler=simpl", "did you mean simple?"),
        ("trainer.min_epochs=99", "is more than trainer.max_epochs=12"),
        ("trainer.min_epochs=3 trainer.pause_after=2", "does not go with trainer.pause_after"),
    ],
)
def test_what_is_refused(words: str, told: str) -> None:
    assert told in refused(*words.split())


def test_what_changes_a_result_is_in_the_fingerprint(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(home)
    plain = fingerprint(composed())
    for same in ("logger=csv", "callbacks=lr_monitor", "trainer.profiler=simple", "debug=none"):
        assert fingerprint(composed(same)) == plain, same
    own = ("+callbacks.own._target_=outside.parts.Counter", "+callbacks.own.step=1")
    others = ("callbacks=swa",), own, ("trainer.max_steps=3",), ("debug=overfit",)
    assert len({plain, *(fingerprint(composed(*words)) for words in others)}) == 5


def test_fast_dev_run_leaves_no_result(train: Any, tmp_path: Path) -> None:
    done = train("trainer.fast_dev_run=true", "test=true")
    assert done.returncode == 0, done.stderr
    found = record(tmp_path / "run")
    assert found["status"] == "completed"
    assert (found["objective"]["value"], found["best"], found["test"]) == (None, {}, None)
    assert found["cost"]["fast_dev_run"] is True
    assert found["cost"]["epochs"] == 0
    assert {it.name for it in (tmp_path / "run").iterdir()} >= {"record.json", "run.log"}
    assert not list((tmp_path / "run").rglob("*.ckpt"))
    assert not (tmp_path / "run" / "metrics.csv").exists()
    assert train("trainer.fast_dev_run=true", "test=true").returncode == 0  # once more


@pytest.mark.slow
def test_what_ends_a_run_early_is_no_pause(train: Any, tmp_path: Path) -> None:
    """Three steps are an epoch and a half; the half is validated too."""
    done = train("trainer.max_steps=3", "trainer.max_epochs=4", "trainer.num_nodes=1")
    assert done.returncode == 0, done.stderr
    rows = read_history(tmp_path / "run")
    assert [row["step"] for row in rows] == [2, 3]
    assert all("val/mIoU" in row for row in rows)
    assert record(tmp_path / "run")["status"] == "completed"
    again = train("trainer.max_steps=3", "trainer.max_epochs=4", "trainer.num_nodes=1")
    assert "holds this run already, completed" in again.stdout
    done = train("trainer.max_time={seconds: 1}", "trainer.max_epochs=999", place="time")
    assert done.returncode == 0, done.stderr
    assert record(tmp_path / "time")["status"] == "completed"
    assert 0 < len(read_history(tmp_path / "time")) < 999


def test_a_profile_a_limited_test_and_parts_of_torch(train: Any, tmp_path: Path) -> None:
    done = train(
        "+trainer.profiler=simple",
        "trainer.limit_test_batches=2",
        "data.batch_size=1",
        "model.norm=group",
        "test=true",
        "trainer.max_epochs=2",
        "optimizer._target_=torch.optim.NAdam",
        STEP_LR,
        "scheduler.step_size=1",
        "logger=csv",
        "callbacks=lr_monitor",
    )
    assert done.returncode == 0, done.stderr
    assert "run_training_epoch" in (tmp_path / "run/fit-profile.txt").read_text()
    assert "test_step" in (tmp_path / "run/test-profile.txt").read_text()
    found = record(tmp_path / "run")
    assert found["environment"]["targets"] == {
        "optimizer": "torch.optim.NAdam",
        "scheduler": "torch.optim.lr_scheduler.StepLR",
        "logger.csv": "lightning.pytorch.loggers.CSVLogger",
        "callbacks.lr_monitor": "lightning.pytorch.callbacks.LearningRateMonitor",
    }
    assert [row["lr"] for row in read_history(tmp_path / "run")] == pytest.approx([1e-4, 1e-5])
    assert list((tmp_path / "run").glob("lightning_logs/*/metrics.csv"))
    content = __import__("torch").load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert "momentum_decay" in content["optimizer_states"][0]["param_groups"][0]  # NAdam's


@pytest.mark.slow
def test_averaged_weights_are_the_same_after_a_pause(train: Any, tmp_path: Path) -> None:
    words = (
        "trainer.max_epochs=4",
        f"+callbacks.swa._target_={SWA}",
        "+callbacks.swa.swa_lrs=1e-3",
        "+callbacks.swa.swa_epoch_start=1",
    )
    assert train(*words).returncode == 0
    paused = train(*words, "trainer.pause_after=3", place="paused")
    assert paused.returncode == 0, paused.stderr
    assert record(tmp_path / "paused")["status"] == "paused"
    done = train(*words, place="paused")
    assert done.returncode == 0, done.stderr
    whole, parts = (
        [{k: it for k, it in row.items() if k != "seconds"} for row in read_history(folder)]
        for folder in (tmp_path / "run", tmp_path / "paused")
    )
    assert whole == parts
    assert record(tmp_path / "run")["environment"]["targets"] == {"callbacks.swa": SWA}


def test_parts_of_a_package_of_ones_own(train: Any, home: Path, tmp_path: Path) -> None:
    words = (
        "trainer.max_epochs=2",
        f"hydra.searchpath=[file://{home / 'outside/conf'}]",
        "callbacks=[counter,lr_monitor]",
        "callbacks.counter.title=own",
        "logger=lines",
        "optimizer._target_=outside.parts.Plain",
        "~optimizer.weight_decay",
    )
    paused = train(*words, "trainer.pause_after=1")
    assert paused.returncode == 0, paused.stderr
    done = train(*words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/own.txt").read_text() == "4"  # with the first part's
    assert "val/mIoU" in (tmp_path / "run/lines.txt").read_text()
    targets = record(tmp_path / "run")["environment"]["targets"]
    assert targets["callbacks.counter"] == "outside.parts.Counter"
    assert targets["optimizer"] == "outside.parts.Plain"


@pytest.mark.slow
def test_a_state_that_no_checkpoint_can_hold_is_told(train: Any, tmp_path: Path) -> None:
    words = ("+callbacks.x._target_=outside.parts.Opaque", "+callbacks.x.step=1")
    done = train(*words, "trainer.max_epochs=2", "trainer.pause_after=1")
    assert done.returncode == 0, done.stderr
    assert "the state of Opaque is more than a checkpoint may hold" in done.stdout + done.stderr
    assert train(*words, "trainer.max_epochs=2").returncode == 0
    assert (tmp_path / "run/epochs.txt").read_text() == "1"


def test_no_such_name_in_a_module_that_is_there() -> None:
    with pytest.raises(TargetError, match=r"json has no decod; did you mean decoder\?"):
        signature_of("json.decod")


# A DataModule and a LightningModule


WHOLE = ("data._target_=outside.whole.Lines", "task.module._target_=outside.whole.Line")
FITS = ("objective.metric=val/score", "+task.module.rate=.1", "trainer.max_epochs=2")


def test_a_module_and_data_that_know_nothing_of_the_project(train: Any, tmp_path: Path) -> None:
    done = train(*WHOLE, *FITS, "data.batch_size=4", "test=true")
    assert done.returncode == 0, done.stderr
    assert "whether another run saw the same cannot be told" in done.stdout
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["status"] == "completed"
    assert record["objective"]["value"] < 0  # minus an error: the largest is the best
    rows = read_history(tmp_path / "run")
    assert rows[0]["step"] == 8  # 32 points, four at a time: it took the key that it knows
    assert record["objective"]["value"] == max(row["val/score"] for row in rows)
    assert record["test"].keys() == {"test/score"}
    found = {"data": "outside.whole.Lines", "task.module": "outside.whole.Line"}
    assert record["environment"]["targets"] == found


def test_foreign_data_are_tested_where_that_is_asked_for_later(train: Any, tmp_path: Path) -> None:
    first = train(*WHOLE, *FITS, "trainer.overfit_batches=1")
    assert first.returncode == 0, first.stderr
    assert "Lines takes none of data.image_size, data.resize, data.augment" in first.stdout
    assert record(tmp_path / "run")["test"] is None
    assert read_history(tmp_path / "run")[-1]["step"] == 2  # a batch an epoch
    again = train(*WHOLE, *FITS, "trainer.overfit_batches=1", "test=true")
    assert again.returncode == 0, again.stderr
    assert "testing the completed run" in again.stdout
    assert record(tmp_path / "run")["test"].keys() == {"test/score"}
    again = train(*WHOLE, *FITS, "trainer.overfit_batches=1", "test=true")
    assert "holds this run already, completed" in again.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("objective.metric=val/score",), "task.module.rate: outside.whole.Line needs it"),
        ((*FITS, "+task.module.widht=3"), "takes no such argument; did you mean width?"),
        ((*FITS, "+data.cuont=3"), "takes no such argument; did you mean count?"),
        (
            (*FITS, "data.resize=letterbox"),
            "data.resize=letterbox: outside.whole.Lines takes no such argument",
        ),
        ((*FITS[1:], "objective.metric=val/scor"), "not one of val/score"),
    ],
)
def test_what_does_not_fit_them_is_one_line(train: Any, words: Any, reason: str) -> None:
    done = train(*WHOLE, *words)
    assert done.returncode in (1, 2)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_maker_of_a_part_refuses_is_told_as_it_is(train: Any, home: Path) -> None:
    """The error that a library wraps is also its cause: nobody may follow that circle for ever."""
    (home / "outside" / "strict.py").write_text(
        "from phasewise.errors import UserError\n\n\n"
        "def made(channels, classes):\n    raise UserError('this head wants another colour')\n\n\n"
        "def logger():\n    raise UserError('this logger wants another colour')\n"
    )
    done = train("model.segmentation_head={_target_: outside.strict.made}")
    assert done.stderr.startswith("train.py: this head wants another colour")
    done = train("+logger.own._target_=outside.strict.logger")
    assert done.stderr.startswith("train.py: this logger wants another colour")


@pytest.mark.slow
def test_lists_of_an_own_optimizer_can_be_continued(train: Any, tmp_path: Path) -> None:
    words = ("optimizer._target_=torch.optim.NAdam", "optimizer.betas=[.8,.9]")
    for rest in (("trainer.pause_after=1",), ()):
        done = train(*words, "trainer.max_epochs=2", *rest)
        assert done.returncode == 0, done.stderr
    assert "continuing after epoch 1" in done.stdout
    assert len(read_history(tmp_path / "run")) == 2


def test_own_data_without_an_identity_are_told_by_their_place() -> None:
    own, ours = (
        {fingerprint({"data": {"_target_": target, "root": root}}) for root in "ab"}
        for target in ("outside.whole.Lines", "multitask.data.VocData")
    )
    assert len(own) == 2
    assert len(ours) == 1  # known by their content

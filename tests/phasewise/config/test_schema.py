"""Which configurations are accepted, and what is said about the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import BaseModel

from phasewise.config.choices import tasks_of
from phasewise.config.fields import Node
from phasewise.config.help import config_groups, flatten
from phasewise.config.schema import NOT_OF_A_RUN, check_config
from phasewise.errors import UserError
from phasewise.records.checkpoints import remove_weights

CONF = Path(__file__).parents[3] / "conf"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", ["hydra/sweeper=basic", *overrides])


def choices(*groups: str) -> list[str]:
    return [f"{g}={path.stem}" for g in groups for path in sorted((CONF / g).glob("*.yaml"))]


@pytest.fixture(scope="module")
def base() -> DictConfig:
    return composed()


def changed(base: DictConfig, *overrides: str) -> DictConfig:
    """A copy of the default config with other values; YAML's types, as in Hydra."""
    cfg = base.copy()
    for override in overrides:
        key, _, value = override.partition("=")
        parsed = OmegaConf.to_container(OmegaConf.create(f"value: {value}"))
        assert isinstance(parsed, dict)
        with open_dict(cfg):
            OmegaConf.update(cfg, key, parsed["value"], merge=False)
    return cfg


def keys(node: BaseModel, prefix: str = "") -> Iterator[str]:
    """Dotted keys of the schema as chosen by the content."""
    for name, field in type(node).model_fields.items():
        key, value = prefix + (field.alias or name), getattr(node, name)
        yield from keys(value, f"{key}.") if isinstance(value, BaseModel) else [key]


def refused(cfg: DictConfig) -> str:
    with pytest.raises(UserError) as error:
        check_config(cfg)
    message = str(error.value)
    for word in ("pydantic", "Input should", "http", "validation error"):
        assert word not in message
    assert "--help" in message.splitlines()[-1]
    return message


def data_choices() -> list[str]:
    """Data sets with the tasks that read them."""
    files = sorted((CONF / "data").glob("*.yaml"))
    tasks = config_groups(CONF)["task"]
    return [f"task={task} data={it.stem}" for it in files for task in tasks_of(it, tasks)]


@pytest.mark.parametrize("words", [*choices("task", "optimizer", "scheduler"), *data_choices()])
def test_files_and_schema_have_the_same_keys(words: str, tmp_path: Path) -> None:
    cfg = composed(*words.split())
    if "root" in set(cfg.data):
        cfg.data.root = str(tmp_path)
    check_config(cfg)
    data = OmegaConf.to_container(cfg)
    for name in NOT_OF_A_RUN:
        data.pop(name, None)
    schema = get_class(cfg.task.schema)
    assert set(keys(schema.model_validate(data))) == flatten(data).keys()


def test_no_key_has_a_default_outside_the_files() -> None:
    def subclasses(cls: type[Node]) -> Iterator[type[Node]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from subclasses(sub)

    # phases of a study, and what predict.py, evaluate.py and export.py are told, have no file
    apart = ("phasewise.study.", "phasewise.inference.")
    optional = ("worth_trying",)  # a user's own task need name nothing
    nodes = [cls for cls in subclasses(Node) if not cls.__module__.startswith(apart)]
    fields = [(cls, *item) for cls in nodes for item in cls.model_fields.items()]
    assert len(fields) > 50
    own = [(cls, name) for cls, name, field in fields if not field.is_required()]
    assert [(cls, name) for cls, name in own if name not in optional] == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "model.activation=rellu",
            "model.activation=rellu: not one of native, relu, leaky_relu, gelu, silu, elu, mish; "
            "did you mean relu?",
        ),
        ("optimizer.lr=fast", "optimizer.lr=fast: must be a number > 0"),
        ("optimizer.lr=0", "optimizer.lr=0: must be a number > 0"),
        ("optimizer.lr=.nan", "optimizer.lr=nan: must be a number > 0"),
        ("optimizer.lr=true", "optimizer.lr=true: must be a number > 0"),
        ("optimizer.weight_decay=-0.1", "must be a number >= 0"),
        ("seed=true", "seed=true: must be a whole number in [0, 2**32)"),
        ("seed=4294967296", "must be a whole number in [0, 2**32)"),
        ("test='true'", "test='true': not one of auto, true, false"),
        ("trainer.deterministic='false'", "trainer.deterministic='false': must be true or false"),
        ("trainer.deterministic=0", "must be true or false"),
        ("trainer.max_epochs=0", "must be a whole number >= 1"),
        ("trainer.max_epochs=2.0", "trainer.max_epochs=2.0: must be a whole number >= 1"),
        ("trainer.limit_train_batches=0", "must be a whole number >= 1 or a fraction in (0, 1]"),
        ("trainer.limit_train_batches=1.5", "must be a whole number >= 1 or a fraction in (0, 1]"),
        ("trainer.limit_val_batches=true", "must be a whole number >= 1 or a fraction in (0, 1]"),
        ("trainer.gradient_clip_val=0", "must be a number > 0 or null"),
        ("trainer.strategy=dpp", "did you mean ddp?"),
        ("early_stopping.patience=0", "must be a whole number >= 1 or null"),
        ("model.dropout_rate=1.0", "must be a number in [0, 1)"),
        ("model.head_channels=48", "must be a whole number, a multiple of 32"),
        ("model.pretrained=imagenet", "must be true, false or an existing weights file"),
        ("model=5", "model=5: is a section"),
        ("model.foo=1", "model.foo: no such key"),
        ("model.actvation=relu", "model.actvation: no such key; did you mean model.activation?"),
        ("data.image_size=100", "must be a whole number, a multiple of 32"),
        ("data.root=/x", "data.root: no such key"),
        ("data.augment=flip", "data.augment: 'flip' is not a list"),
        ("data.augment=[flp]", "data.augment: 'flp' is not an augmentation"),
        ("data._target_=os.system", "data._target_=os.system: is no LightningDataModule"),
        ("data=5", "data=5: this task reads only data=shapes"),
        ("task.module._target_=os.system", "task.module._target_=os.system: is no LightningModule"),
        ("task.name=../up", "task.name=../up: must be a short name"),
        ("scheduler.name=cosin", "not one of none, plateau, cosine, multistep, onecycle"),
        ("objective.metric=test/mIoU", "selection uses validation data only"),
        ("objective.metric=val/miou", "did you mean val/mIoU?"),
        ("objective.metric=val/loss", "objective.mode=max: val/loss is better when lower"),
        ("objective.mode=min", "objective.mode=min: val/mIoU is better when higher; must be max"),
        ("logger=${nothing}", "logger: Interpolation key 'nothing' not found"),
        ("seed=???", "seed: must be given, e.g. seed=VALUE"),
        ("data.root=???", "data.root: must be given, e.g. data.root=PATH"),
        ("objective.metric=???", "objective.metric: must be given"),
        ("init_from=/no/such", "init_from=/no/such: neither a checkpoint nor the directory"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(base: DictConfig, override: str, expected: str) -> None:
    first, *rest = refused(changed(base, override)).splitlines()
    assert expected in first
    assert len(rest) == 1


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ("model.segmentation_head=none",),
            "objective.metric=val/mIoU: not there with model.segmentation_head=none; "
            "one of val/loss, val/mAP, val/mAP50",
        ),
        (
            ("model.detection_head=none", "objective.metric=val/mAP50"),
            "not there with model.detection_head=none",
        ),
        (
            ("model.segmentation_head=none", "model.detection_head=none"),
            "nothing is left to train",
        ),
        (
            ("trainer.max_epochs=2", "trainer.check_val_every_n_epoch=3"),
            "trainer.check_val_every_n_epoch=3: with trainer.max_epochs=2 nothing is ever",
        ),
    ],
)
def test_values_that_do_not_go_together(
    base: DictConfig, overrides: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(changed(base, *overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ("data=beads", "seed=-1"),
            "  data=beads: belongs to task=segmentation; this task reads only data=shapes, voc, ",
        ),
        (
            ("task=reid", "data=voc", "data.root=."),
            "data=voc: belongs to task=multitask; this task reads only data=vehicles, veri, ",
        ),
        (("data=voc",), "data.root: must be given, e.g. data.root=PATH"),
        (("data=voc", "data.root=/no/such"), "data.root=/no/such: no such folder"),
        (("data=voc2012", "data.root=/no/such"), "data.download=true fetches VOC 2012"),
        (
            ("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"),
            "optimizer.nesterov=true: needs optimizer.momentum > 0",
        ),
        (("optimizer=amsgrad", "optimizer.amsgrad=false"), "optimizer.amsgrad=false: not one of"),
        (("scheduler=multistep", "scheduler.milestones=[10,5]"), "must be a list of ascending"),
        (("scheduler=multistep", "scheduler.milestones=[]"), "must be a list of ascending"),
        (("scheduler=multistep", "scheduler.warmup_epochs=10"), "scheduler.milestones[0]=10: the"),
        (("scheduler=cosine", "scheduler.warmup_epochs=20"), "less than trainer.max_epochs="),
        (("scheduler=cosine", "scheduler.min_lr=0.1"), "must be below optimizer.lr=0.001"),
        (("scheduler=plateau", "scheduler.monitor=val/loss"), "scheduler.mode=null: val/loss is"),
        (("scheduler=plateau", "scheduler.monitor=loss"), "scheduler.monitor=loss: not one of"),
        (
            ("scheduler=plateau", "scheduler.mode=min"),
            "scheduler.mode=min: val/mIoU is better when higher; must be max",
        ),
        (
            (
                "scheduler=plateau",
                "scheduler.mode=max",
                "objective.metric=val/loss",
                "objective.mode=min",
            ),
            "scheduler.mode=max: val/loss is better when lower; must be min",
        ),
        (("scheduler=plateau", "scheduler.factor=1.0"), "must be a number in (0, 1)"),
    ],
)
def test_values_of_other_choices(overrides: tuple[str, ...], expected: str) -> None:
    assert expected in refused(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.lr=1", "optimizer.weight_decay=0"),  # a whole number is a number
        ("trainer.limit_train_batches=1", "trainer.limit_val_batches=0.1"),
        ("trainer.limit_train_batches=1.0", "trainer.gradient_clip_val=null"),
        ("early_stopping.patience=1", "data.ram_limit_mb=0", "figures.images=0"),
        ("model.dropout_rate=0", "loss.label_smoothing=0", "seed=4294967295", "test=false"),
        ("objective.metric=val/loss", "objective.mode=min", "model.segmentation_head=none"),
        ("model.detection_head=none", "objective.metric=val/pixel_acc"),
        (f"model.pretrained={Path(__file__)}",),
        ("data.augment=[]",),
        ("data.augment=[flip, {rotate: {degrees: 5}}]",),
    ],
)
def test_values_at_the_bounds_are_accepted(base: DictConfig, overrides: tuple[str, ...]) -> None:
    check_config(changed(base, *overrides))


def test_all_problems_are_one_message(base: DictConfig) -> None:
    wrong = changed(base, "model.activation=rellu", "seed=-1", "loss.boxes=iou", "data.x=1")
    first, *lines, last = refused(wrong).splitlines()
    assert first == "4 settings cannot be used:"
    assert [line.split(":")[0].strip() for line in lines] == [
        "seed=-1",
        "data.x",
        "model.activation=rellu",
        "loss.boxes=iou",
    ]
    assert "--help" in last


def test_the_hydra_node_is_left_out_but_may_be_referred_to() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["hydra/sweeper=basic", "data.cache_dir=${hydra.run.dir}/cache"]
        check_config(compose("config", words, return_hydra_config=True))


@pytest.mark.parametrize("named", ["run", "run/checkpoints/best.ckpt"])
def test_weights_that_a_study_removed_are_told_from_a_wrong_path(
    base: DictConfig, tmp_path: Path, named: str
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    remove_weights(tmp_path / "run", "removed by the study; study.checkpoints=best keeps them")
    first, _ = refused(changed(base, f"init_from={tmp_path}/{named}")).splitlines()
    wanted = "its weights were removed by the study; study.checkpoints=best keeps them"
    assert first == f"init_from={tmp_path}/{named}: {wanted}"


@pytest.mark.parametrize("key", ["init_from", "model.pretrained"])
def test_weights_of_which_a_copy_broke_off_are_told_before_anything_runs(
    base: DictConfig, tmp_path: Path, key: str
) -> None:
    (tmp_path / "w.pth").write_bytes(b"PK\3\4" + bytes(1000))
    (first, *_) = refused(changed(base, f"{key}={tmp_path}/w.pth")).splitlines()
    assert (
        first == f"{key}={tmp_path}/w.pth: only its first 1.0 kB are there: a copy of it broke off"
    )


def test_a_study_is_no_run_to_start_from(base: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "study.json").touch()
    first, _ = refused(changed(base, f"init_from={tmp_path}")).splitlines()
    assert f"the directory of a study or sweep: name a run in it, {tmp_path}/PHASE/RUN" in first


@pytest.mark.parametrize(
    "name", ["os.path", "os.system", "phasewise.errors.UserError", "schema", ""]
)
def test_only_a_schema_of_this_project_is_imported(base: DictConfig, name: str) -> None:
    assert "must name a subclass of phasewise.config.schema.RunConfig" in refused(
        changed(base, f"task.schema='{name}'")
    )


def test_a_schema_may_be_of_a_package_of_ones_own(
    base: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_schema.py").write_text(
        "from multitask.schema import MultitaskConfig\n"
        "class Config(MultitaskConfig):\n    METRICS = {'val/own': 'max'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cfg = changed(base, "task.schema=foreign_schema.Config")
    assert "objective.metric=val/mIoU: not one of val/own" in refused(cfg)
    check_config(changed(cfg, "objective.metric=val/own"))

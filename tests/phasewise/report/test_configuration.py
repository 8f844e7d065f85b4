"""The complete configuration in a report: as a table, and as what trains it again."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from phasewise.records.record import RunRecord, load_record
from phasewise.report.report import write_report
from phasewise.report.sections.configuration import network_size
from phasewise.study.recipe import AROUND, complete_config, recipe
from phasewise.study.saved_config import SavedConfig
from tests import forks
from tests.conftest import ROOT, TINY
from tests.phasewise.study.synthetic import CLEAN, Synthetic

pytestmark = pytest.mark.usefixtures("undrawn")


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(words), return_hydra_config=True)


def save(config: DictConfig, directory: Path) -> SavedConfig:
    """What Hydra leaves beside a run."""
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    (directory / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(own))
    hydra = OmegaConf.create({"hydra": {"runtime": {"choices": config.hydra.runtime.choices}}})
    (directory / ".hydra" / "hydra.yaml").write_text(OmegaConf.to_yaml(hydra))
    return SavedConfig(directory)


def of_run(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in AROUND}


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer=sgd", "scheduler=plateau", "model.activation=gelu", "optimizer.lr=1e-5"],
        ["task=segmentation", "data=image_mask", "data.root=some folder", "loss.name=tversky"],
        ["task=reid", "preset=reid_strong", "model.backbone=resnet18", "data.augment=[]"],
        ["study=localization", "data=coco", "data.root=x", "data.augment=[{rotate: {degrees: 5}}]"],
        [
            "callbacks=[swa,lr_monitor]",
            "logger=csv",
            "debug=overfit",
            "trainer.precision=bf16-mixed",
        ],
        [
            "early_stopping.patience=3",
            "init_from=null",
            "seed=7",
            "+trainer.max_time='00:01:00:00'",
        ],
    ],
)
def test_the_preset_gives_the_config_of_the_run_key_by_key(
    words: list[str], tmp_path: Path
) -> None:
    config = composed(*words)
    text = recipe(save(config, tmp_path / "run"), "x")
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "final.yaml").write_text(text)
    again = composed("preset=final", f"hydra.searchpath=['file://{tmp_path}']")
    assert of_run(again) == of_run(config)
    chosen, wanted = (dict(one.hydra.runtime.choices) for one in (again, config))
    for group in ("preset", "study", "debug"):
        del chosen[group], wanted[group]
    assert chosen.items() >= wanted.items()  # of several callbacks, Hydra keeps no choice


def test_references_are_resolved_and_those_of_hydra_stay(tmp_path: Path) -> None:
    config = OmegaConf.create({"a": 1, "b": "${a}", "study": {"x": 1}, "hydra": {}})
    OmegaConf.update(config, "hydra.runtime.choices", {"model": "small"}, force_add=True)
    saved = save(config, tmp_path / "run")
    assert complete_config(saved) == {"a": 1, "b": 1}
    # an application without presets gets plain YAML
    assert yaml.safe_load(recipe(saved, "two\nlines")) == {"a": 1, "b": 1}
    config.c = "${hydra:job.name}"
    assert complete_config(save(config, tmp_path / "other"))["c"] == "${hydra:job.name}"


def with_configs(study: Path, *words: str) -> None:
    """Give each run the config that its overrides make of this project's own."""
    for file in study.rglob("record.json"):
        own = [word for word in load_record(file.parent).overrides if not word.startswith("seed=")]
        defaults = ["optimizer.lr=0.001", "model.activation=relu"]
        own += [word for word in defaults if not any(w.startswith(word.split("=")[0]) for w in own)]
        save(composed(*words, *own), file.parent)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "tables" / "configuration.csv").open() as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def test_every_key_stands_in_the_table_with_what_the_start_had(tmp_path: Path) -> None:
    Synthetic(test=True, seeds=[0]).write(tmp_path)
    with_configs(tmp_path, "study=demo")
    write_report(tmp_path)
    found = rows(tmp_path)
    assert found["model.activation"] == {
        "group": "model",
        "key": "model.activation",
        "best": "gelu",
        "start": "relu",
        "decided in": "activation",
    }
    assert (found["optimizer"]["group"], found["optimizer"]["best"]) == ("optimizer", "adamw")
    assert (found["seed"]["group"], found["callbacks"]["best"]) == ("run", "none")
    config = OmegaConf.to_container(composed("study=demo"))
    assert isinstance(config, dict)
    expected = {f"{group}.{key}" for group in ("data", "loss", "trainer") for key in config[group]}
    assert expected <= found.keys()
    assert not any(key.split(".")[0] in AROUND for key in found)
    assert config["task"]["worth_trying"] and "task.worth_trying" not in found
    text = (tmp_path / "report.md").read_text()
    assert f"1 of {len(found)} keys differs from the start and is marked" in text
    preset = yaml.safe_load((tmp_path / "preset" / "final.yaml").read_text())
    assert preset["model"]["activation"] == "gelu"


def test_a_value_was_decided_where_it_first_won(tmp_path: Path) -> None:
    """A later phase that tries another rate and keeps this one has not decided it."""
    phases = CLEAN | {"again": "optimizer.lr=1e-4,1e-3", "last": "model.activation=relu,leaky_relu"}
    Synthetic(phases, test=True, seeds=[0]).write(tmp_path)
    with_configs(tmp_path, "study=demo")
    write_report(tmp_path)
    found = rows(tmp_path)
    assert found["optimizer.lr"]["decided in"] == "lr"
    assert found["model.activation"]["decided in"] == "activation"
    Synthetic({"lr": "optimizer.lr=1e-4", "again": "optimizer.lr=1e-4,1e-3"}, seeds=[0]).write(
        tmp_path / "changed"
    )
    with_configs(tmp_path / "changed", "study=demo")
    write_report(tmp_path / "changed")
    assert rows(tmp_path / "changed")["optimizer.lr"]["decided in"] == "again"


def test_a_later_report_without_the_preset_removes_it(tmp_path: Path) -> None:
    Synthetic(seeds=[0]).write(tmp_path)
    with_configs(tmp_path)
    write_report(tmp_path)
    assert (tmp_path / "preset" / "final.yaml").is_file()
    for file in tmp_path.rglob("config.yaml"):
        file.unlink()
    write_report(tmp_path)
    assert not (tmp_path / "preset" / "final.yaml").exists()


def test_lines_to_paste_name_no_file_to_delete(tmp_path: Path) -> None:
    Synthetic(seeds=[0]).write(tmp_path)
    with_configs(tmp_path, "data=voc", "data.root='](tables/mine.csv)'")
    write_report(tmp_path)
    (tmp_path / "tables" / "mine.csv").write_text("of the user")
    write_report(tmp_path)
    assert (tmp_path / "tables" / "mine.csv").is_file()


@pytest.mark.slow
def test_both_commands_of_a_report_train_the_same_again(tmp_path: Path, cache: Path) -> None:
    study = tmp_path / "my study"
    words = [
        *TINY,
        "trainer.accelerator=cpu",
        f"data.cache_dir={cache}",
        f"hydra.sweep.dir='{study}'",
    ]
    swept = ["-m", "model.activation=relu,gelu"]
    done = forks.engine().run(["train.py", *words, *swept], ROOT)
    assert done.returncode == 0, done.stderr
    text = (study / "report.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"^    (python train.*)$", text, re.M)]
    assert len(commands) == 2
    best = max(
        (load_record(file.parent) for file in study.rglob("record.json")),
        key=lambda record: record.objective["value"],
    )
    for number, command in enumerate(commands):
        place = tmp_path / f"again{number}"
        done = forks.engine().run([*command[1:], f"hydra.run.dir={place}"], ROOT)
        assert done.returncode == 0, done.stderr
        record = load_record(place)
        assert (record.fingerprint, record.best) == (best.fingerprint, best.best)
        there, wanted = (complete_config(SavedConfig(it)) for it in (place, best.directory))
        assert there == wanted


@pytest.mark.parametrize(
    ("cost", "data", "told"),
    [
        ({}, {}, ""),
        ({"parameters": 1971537}, {}, "The network has 1,971,537 parameters."),
        (
            {"parameters": 12, "epochs": 1, "seconds": 2.0},
            {},
            "The network has 12 parameters, trained for 1 epoch in 2.0 s.",
        ),
        (
            {"parameters": 12, "receptive_field": 188, "epochs": 3, "seconds": 75.0},
            {"image_size": 256},
            "The network has 12 parameters and a receptive field of 188 of 256 pixels along a side"
            ", trained for 3 epochs in 1m 15s.",
        ),
        (
            {"receptive_field": 188},
            {"image_size": 128},
            "The network has a receptive field of the whole image.",
        ),
        (
            {"receptive_field": 188},
            {},
            "The network has a receptive field of 188 pixels along a side.",
        ),
    ],
)
def test_size_of_the_network(cost: dict[str, Any], data: dict[str, Any], told: str) -> None:
    record = RunRecord(Path(), "", "", [], 0, {}, "completed", cost=cost, data=data)
    assert network_size(record) == told

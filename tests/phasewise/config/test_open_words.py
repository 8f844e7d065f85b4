"""Words in a study's file are those of a command line: keys that no file has need no plus."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from phasewise.config.open_keys import open_words
from phasewise.study.application import Application
from phasewise.study.schema import parse_study
from tests.conftest import ROOT

DATA = {
    "trainer": {"max_epochs": 3},
    "scheduler": {"name": "none", "warmup_epochs": 0},
    "callbacks": {},
    "model": {"head": "points"},
}
STEP = "scheduler._target_=torch.optim.lr_scheduler.StepLR"


def test_only_what_may_be_added_gets_a_plus() -> None:
    lines = [
        ["trainer.min_epochs=1,2", "trainer.max_epochs=4", "trainer.min_epoch=1"],
        [STEP, "scheduler.warmup_epochs=1"],
        ["scheduler.step_size=1,2"],  # of the class that the phase before has brought
        ["+trainer.max_steps=3", "~scheduler.name", "seed=0,1", "no override"],
        ["callbacks=swa", "callbacks.swa.swa_lrs=0.1", "callbacks.own.step=1"],
        ["model.head._target_=mine.Head", "model.head.width=3", "loss.width=3"],
    ]
    assert open_words(lines, DATA) == [
        ["++trainer.min_epochs=1,2", "trainer.max_epochs=4", "trainer.min_epoch=1"],
        [f"++{STEP}", "scheduler.warmup_epochs=1"],
        ["++scheduler.step_size=1,2"],
        ["+trainer.max_steps=3", "~scheduler.name", "seed=0,1", "no override"],
        ["callbacks=swa", "callbacks.swa.swa_lrs=0.1", "++callbacks.own.step=1"],
        ["++model.head._target_=mine.Head", "++model.head.width=3", "loss.width=3"],
    ]


def test_phases_and_budgets_of_a_study(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\n"
        "study:\n"
        "  name: mine\n"
        "  seeds: [0, 1, 2]\n"
        "  phases:\n"
        "    least: trainer.min_epochs=1,2\n"
        "    both:\n"
        "      combinations: [trainer.min_steps=1, trainer.max_steps=9]\n"
        "    again:\n"
        "      rerun: {top: 1, overrides: trainer.min_epochs=3}\n"
        "  budgets:\n"
        "    small: trainer.max_steps=4\n"
    )
    words = ["study=mine", "budget=small", f"hydra.searchpath=[file://{tmp_path}]"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", words, return_hydra_config=True)
    OmegaConf.set_readonly(config, value=None)
    study, others = parse_study(config, Application(config))
    assert others == ["++trainer.max_steps=4"]
    assert study.phases["least"].overrides == ["++trainer.min_epochs=1,2"]
    both = study.phases["both"].combinations
    assert both == [["++trainer.min_steps=1"], ["++trainer.max_steps=9"]]
    again = study.phases["again"].rerun
    assert again is not None
    assert again.overrides == ["++trainer.min_epochs=3"]

"""What keys that no override names have, from the files that Hydra leaves beside a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from phasewise.analysis.audit import audit
from phasewise.analysis.statistics.effects import phase_effects
from phasewise.analysis.statistics.frame import trial_frame
from phasewise.study.read import read_study
from phasewise.study.results import UNSET, PhaseResult
from phasewise.study.saved_config import SavedConfig
from phasewise.study.table import sweep_table
from tests.phasewise.study.synthetic import Settings, Synthetic, noise, write_config

LR, NORM, NET = "optimizer.lr", "model.norm", "model.backbone"


def score(settings: Settings, seed: int) -> float:
    found = {1e-4: 0.4, 1e-3: 0.6}[settings.get(LR, 1e-3)]
    found += {"group": 0.02, "batch": 0.0, "none": 0.01}[settings.get(NORM, "batch")]
    found += {"large": 0.2, "small": 0.1, "base": 0.0}[settings.get(NET, "base")]
    return found + 0.001 * noise(settings, seed)


@pytest.fixture
def phase(tmp_path: Path) -> PhaseResult:
    """Its incumbent names no norm and has that of some of the others."""
    Synthetic(
        {"lr": "optimizer.lr=1e-4,1e-3", "net": f"{NORM}=batch,group {NET}=large,small"},
        score,
        {LR: 1e-3, NORM: "batch", NET: "base"},
    ).write(tmp_path)
    return read_study(tmp_path).phases[1]


def test_a_default_beside_the_same_value_is_one_value(phase: PhaseResult, tmp_path: Path) -> None:
    incumbent = phase.candidates[phase.plan.incumbent]
    assert incumbent.settings == {}
    assert phase.setting(incumbent, NORM) == "batch"
    assert phase.label(incumbent) == f"{NORM}=batch {NET}=base"
    study = read_study(tmp_path)
    frame = trial_frame(study)
    assert set(frame.loc[frame["phase"] == 1, NORM]) == {"batch", "group"}
    assert set(frame[NET]) == {"base", "large", "small"}  # in the first phase too
    effects = phase_effects(study).set_index("key")
    assert effects.loc[NORM, "values"] == 2
    assert "not_from_the_winner" not in [finding.rule for finding in audit(study)]


def test_a_key_with_one_value_only_does_not_vary(tmp_path: Path) -> None:
    phases = {"lr": "optimizer.lr=1e-4,1e-3", "net": f"{NORM}=batch {NET}=large,small"}
    Synthetic(phases, score, {LR: 1e-3, NORM: "batch", NET: "base"}).write(tmp_path)
    assert read_study(tmp_path).phases[1].keys == [NET]


def test_without_a_config_the_others_of_the_phase_tell(phase: PhaseResult) -> None:
    incumbent = phase.candidates[phase.plan.incumbent]
    for trial in incumbent.trials:
        (trial.directory / ".hydra" / "config.yaml").unlink()
    assert phase.setting(incumbent, "trainer.max_epochs") == 12
    assert phase.setting(incumbent, LR) == 0.001  # a word of the base
    assert phase.setting(incumbent, NORM) == UNSET == "(not set)"  # all others set it


def test_choices_of_groups_and_references(tmp_path: Path) -> None:
    settings = {"scheduler.name": "cosine", "data.size": "${model.size}", "model.size": 64}
    write_config(tmp_path, settings | {"a": "${b}", "b": "${a}", "model.kept": None})
    sources = [
        {"path": "hydra.conf", "schema": "pkg", "provider": "hydra"},
        {"path": "/my confs", "schema": "file", "provider": "command-line"},
    ]
    runtime = {"choices": {"scheduler": "cosine", "augment": "strong"}, "config_sources": sources}
    text = yaml.safe_dump({"hydra": {"runtime": runtime}})
    (tmp_path / ".hydra" / "hydra.yaml").write_text(text)
    saved = SavedConfig(tmp_path)
    assert saved.get("scheduler") == "cosine"  # not its keys
    assert saved.get("augment") == "strong"
    assert saved.get("data.size") == 64
    assert saved.get("model.kept", "x") is None
    assert saved.get("model.none", "x") == "x"
    assert str(saved.get("a")).startswith("${")
    assert saved.sources("command-line") == ["/my confs"]
    nothing = SavedConfig(tmp_path / "nowhere")
    assert nothing.get("a") is None and nothing.sources("main") == [] and not nothing.choices


def test_the_terminals_table_has_the_value(phase: PhaseResult) -> None:
    places = [one.trials[0].directory for one in phase.candidates]
    words = [[*one.plan.overrides] for one in phase.candidates]
    for place, own in zip(places, words, strict=True):
        content = json.loads((place / "record.json").read_text())
        (place / "record.json").write_text(json.dumps(content | {"overrides": own}))
    table = sweep_table(places)
    assert table[NORM].tolist() == ["batch", "batch", "group", "group", "batch"]
    assert table[NET].tolist() == ["large", "small", "large", "small", "base"]

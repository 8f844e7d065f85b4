"""The keys that tell the trials of a study apart, on their way to TensorBoard."""

from __future__ import annotations

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from phasewise.config.lifecycle import study_part
from phasewise.study.journal import Candidate, Phase
from phasewise.study.membership import Membership, Memberships, varied_keys
from phasewise.training.logs import hyperparameters


def phase(*lines: str, seeds: int = 1) -> Phase:
    candidates = [Candidate([*line.split()]) for line in lines]
    return Phase("p", "grid", {}, [*range(seeds)], candidates=candidates)


def test_keys_whose_values_differ_within_a_phase() -> None:
    same = phase("a=1 b=2 c=[x,y]", "a=1 b=3 c=[x,y]")
    absent = phase("", "d=1")
    assert varied_keys([same, absent, phase("b=1", "b=1")]) == ["b", "d"]
    assert varied_keys([phase("a=1", "a=2"), phase("e=0", seeds=2)]) == ["a", "seed"]


def test_a_trial_is_told_them_and_its_record_is_not(tmp_path: Path) -> None:
    memberships = Memberships("demo", ["optimizer.lr", "data@data.extra"])
    memberships.add(tmp_path, Membership(1, "lr", "candidate"))
    (word,) = OverridesParser.create().parse_overrides([memberships.word(tmp_path)])
    cfg = OmegaConf.create({"optimizer": {"lr": 0.1}, "seed": 3})
    OmegaConf.update(cfg, word.key_or_group, word.value(), force_add=True)
    assert cfg.study.trial["keys"] == ["optimizer.lr", "data@data.extra"]
    place = {"phase": "lr", "number": 1, "role": "candidate"}
    assert study_part(cfg) == {"name": "demo", "places": [place]}
    config = OmegaConf.to_container(cfg)
    assert isinstance(config, dict)
    found = hyperparameters({str(key): it for key, it in config.items()}, ["seed=3"], tmp_path)
    assert found == {"optimizer.lr": 0.1}

"""What a study's file may claim, and what is refused before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from pydantic import ValidationError

from phasewise.errors import UserError
from phasewise.study.hypotheses import Hypothesis, refuse_untried, unanswerable
from phasewise.study.journal import Journal, Phase
from phasewise.study.schema import PhaseConfig, StudyConfig

LINES = {
    "rate": [["optimizer.lr=1e-3,1e-2", "data.batch_size=8,32"]],
    "activation": [["model.activation=relu,gelu"]],
}
OBJECTIVE = {"metric": "val/mIoU", "mode": "max"}
CONFIG = OmegaConf.create(
    {"optimizer": {"lr": 0.05}, "data": {"batch_size": 8}, "model": {"activation": "relu"}}
)


def journal() -> Journal:
    declared = {
        "rate": {"optimizer.lr": ["1e-3", "1e-2"], "data.batch_size": ["8", "32"]},
        "activation": {"model.activation": ["relu", "gelu"]},
    }
    phases = [Phase(name, "grid", OBJECTIVE, [0], declared=it) for name, it in declared.items()]
    return Journal(Path(), "x", "toy", [], OBJECTIVE, [0], phases=phases)


def told(stated: dict[str, Any]) -> str:
    """What is wrong with a hypothesis, all of it."""
    try:
        one = Hypothesis.model_validate({"claim": "x"} | stated)
    except ValidationError as error:
        return str(error)
    if problems := list(unanswerable([one], LINES)):
        return "\n".join(map(str, problems))
    try:
        refuse_untried([one], journal(), CONFIG, {"val/mIoU": "max", "val/loss": "min"})
    except UserError as error:
        return str(error)
    return ""


LR = {"key": "optimizer.lr"}


@pytest.mark.parametrize(
    "stated",
    [
        LR | {"best": [1e-3]},
        LR | {"best": ["1e-2"], "where": {"data.batch_size": 32, "model.activation": "gelu"}},
        LR
        | {"best": [0.05], "measure": "stability", "phase": "rate"},  # what the study starts from
        LR | {"order": [1e-3, 1e-2], "measure": "val/loss"},
        LR | {"lowest": [1e-3], "spread_over": ["data.batch_size"], "measure": "train/loss"},
        LR | {"highest": [1e-3], "effect_of": {"data.batch_size": [8, 32]}},
        {"against": {"phase": "rate"}, "at_most": -50, "measure": "stability"},
        {"against": ".", "at_least": 0, "where": {"data.batch_size": [8, 32]}},
    ],
)
def test_what_can_be_claimed(stated: dict[str, Any]) -> None:
    assert told(stated) == ""


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        (LR, "one of best, highest, lowest, order, against must be given"),
        (LR | {"best": [1e-3], "order": [1e-3, 1e-2]}, "one of best, highest"),
        ({"best": [1e-3]}, "must be given"),
        (LR | {"best": []}, "must have values"),
        (LR | {"order": [1e-3]}, "an order two"),
        (LR | {"order": [1e-3, "1e-3"]}, "names a value twice"),
        (LR | {"best": [1e-3], "at_most": 5}, "goes with against only"),
        (LR | {"against": ".", "at_most": 5}, "goes without against"),
        ({"against": "."}, "goes with at_most or at_least"),
        ({"against": ".", "at_most": "half"}, "must be a number, in percent"),
        ({"against": {}, "at_most": 5}, "phase or where must be given"),
        ({"against": {"phases": "rate"}, "at_most": 5}, "did you mean phase?"),
        ({"against": "./nowhere", "at_most": 5}, "against=./nowhere: no such directory"),
        ({"against": {"phase": "rat"}, "at_most": 5}, "against.phase=rat: not one of rate"),
        (LR | {"best": [1e-3], "wher": {}}, "did you mean where?"),
        (LR | {"best": [1e-3], "where": []}, "must be keys with their values"),
        (LR | {"best": [1e-3], "effect_of": {"data.batch_size": [8]}}, "two of its values"),
        (LR | {"best": [1e-3], "effect_of": {"a": [1, 2], "b": [1, 2]}}, "two of its values"),
        (
            LR | {"best": [1e-3], "effect_of": {"a": [1, 2]}, "spread_over": ["b"]},
            "goes without effect_of",
        ),
        (LR | {"best": [2e-3]}, "optimizer.lr is not one of 0.001, 0.01"),
        (LR | {"best": [1e-3], "where": {"model.activation": "gelo"}}, "did you mean gelu?"),
        (LR | {"best": [1e-3], "where": {"model.activatio": "gelu"}}, "did you mean model.activat"),
        (LR | {"best": [1e-3], "where": {"optimizer.lr": 1e-3}}, "stands there twice"),
        (LR | {"best": [1e-3], "effect_of": {"data.batch_size": [8, 33]}}, "not one of 8, 32"),
        (LR | {"best": [1e-3], "effect_of": {"data.batch_siz": [8, 32]}}, "did you mean data.bat"),
        (LR | {"best": [1e-3], "spread_over": ["data.batch"]}, "no phase varies it; did you mean"),
        (LR | {"best": [1e-3], "spread_over": ["optimizer.lr"]}, "stands there twice"),
        (LR | {"best": [1e-3], "phase": "activation"}, "phase activation does not vary it"),
        (LR | {"best": [1e-3], "measure": "stabilty"}, "did you mean stability?"),
        (LR | {"best": [1e-3], "measure": "val/mIou"}, "did you mean val/mIoU?"),
    ],
)
def test_what_is_refused(stated: dict[str, Any], reason: str) -> None:
    assert reason in told(stated)


def test_the_examples_of_the_docs_are_hypotheses() -> None:
    page = (Path(__file__).parents[3] / "docs" / "studies.md").read_text()
    (text,) = re.findall(r"```yaml\n  (hypotheses:\n.+?)```", page, re.DOTALL)
    stated = yaml.safe_load(text.replace("\n  ", "\n"))["hypotheses"]
    found = [Hypothesis.model_validate(one) for one in stated]
    named = {name for one in found for name in one.model_dump(exclude_none=True)}
    assert named >= {"where", "order", "effect_of", "spread_over", "against", "at_most", "at_least"}


def test_metrics_of_a_module_of_ones_own_are_not_known() -> None:
    one = Hypothesis.model_validate(LR | {"claim": "x", "best": [1e-3], "measure": "val/mine"})
    config = OmegaConf.merge(CONFIG, {"task": {"module": {"_target_": "mine.Module"}}})
    assert OmegaConf.is_dict(config)
    refuse_untried([one], journal(), config, {"val/mIoU": "max"})


@pytest.mark.parametrize(("key", "count"), [("optimizer.lr", 0), ("optimizer.weight_decay", 1)])
def test_a_rerun_varies_what_the_phases_before_it_do(key: str, count: int) -> None:
    phases = {"rate": "optimizer.lr=1,2", "again": {"rerun": {"top": 2, "overrides": []}}}
    study = StudyConfig.model_construct(
        phases={name: PhaseConfig.model_validate(one) for name, one in phases.items()},
        hypotheses=[
            Hypothesis.model_validate({"claim": "x", "key": key, "best": [1], "phase": "again"})
        ],
        **{"seeds": None, "adopt": "best", "log_names": None, "budgets": {}},
    )
    assert len(study.problems()) == count


@pytest.mark.parametrize(
    "more",
    [
        {"budget": "smoke"},
        {"hydra": {"overrides": {"task": ["study.phases.rate=optimizer.lr=1,2"]}}},
    ],
)
def test_values_that_a_budget_or_somebody_left_out_are_no_mistake(more: dict[str, Any]) -> None:
    one = Hypothesis.model_validate(LR | {"claim": "x", "best": [7]})
    config = OmegaConf.merge(CONFIG, more)
    assert OmegaConf.is_dict(config)
    refuse_untried([one], journal(), config, {})
    bad = one.model_copy(update={"measure": "val/x"})
    with pytest.raises(UserError, match="measure=val/x: not one of"):
        refuse_untried([bad], journal(), config, {})
    full = OmegaConf.merge(CONFIG, {"budget": "full"})
    assert OmegaConf.is_dict(full)
    with pytest.raises(UserError, match=r"optimizer\.lr is not one of"):
        refuse_untried([one], journal(), full, {})


def test_what_an_earlier_call_was_held_against_may_be_gone(tmp_path: Path) -> None:
    """The study goes on; its report says that it cannot be told."""
    stated = {"claim": "x", "against": f"{tmp_path}/gone", "at_most": 5}
    one, metrics = Hypothesis.model_validate(stated), {"val/mIoU": "max"}
    old = journal()
    old.hypotheses = [one.model_dump(exclude_none=True)]
    refuse_untried([one], journal(), CONFIG, metrics, old)
    for other in (None, journal()):
        with pytest.raises(UserError, match="no such directory"):
            refuse_untried([one], journal(), CONFIG, metrics, other)

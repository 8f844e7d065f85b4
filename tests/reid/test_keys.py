"""Every key of the re-identification pipeline changes what is computed, or does what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from tests.keys import CHOSEN, Outcome, all_keys, tried
from tests.multitask.test_keys import CHANGES as SHARED_CHANGES
from tests.multitask.test_keys import ELSEWHERE as SHARED_ELSEWHERE
from tests.reid.conftest import TINY_REID

# A key, and overrides that change it. Those before "|" go to both that are compared.
ONE_PASS = [
    "data.refit=true|objective.keep=last",
    "data.validation=none|objective.keep=last",
    "data.validation=test",
    "data.validation_fraction=0.6",
    "data.validation=cameras",
    "data.holdout=[0]|data.validation=cameras",
    "data.folds=3",
    "data.fold=1|data.folds=3",
    "data.split_seed=1",
    "data.sampler=random",
    "data.images_per_identity=4",
    "data.train_identities=12",
    "data.cameras=4",
    "data.shots=1",
    "data.draw_seed=1",
    "data.augment=[autoaugment]",
    "model.backbone=resnet18",
    "model.last_stride=1|model.backbone=mobilenet_v2",
    "model.embedding_dim=16",
    "model.neck=none",
    "model.pooling=max|data.image_size=64",
    "model.pooling=gem|data.image_size=64",
    "model.activation=gelu",
    "model.init_scheme=normal",
    "model.norm=group",
    "model.dropout_rate=0.5",
    "model.drop_path_rate=0.5 model.backbone=test_resnet|model.backbone=test_resnet",
    "loss.metric=circle",
    "loss.metric=arcface",
    "loss.metric=cosface",
    "loss.metric=multi_similarity",
    "loss.metric=contrastive",
    "loss.metric=supcon",
    "loss.metric=ntxent",
    "loss.metric=none",
    "loss.id_weight=0.5",
    "loss.metric_weight=0.5",
    "loss.label_smoothing=0.0",
    "loss.margin=0.3",
    "loss.mining=all",
    "loss.mining=semi_hard|loss.margin=0.3",
    "evaluation.distance=euclidean",
    "evaluation.average_precision=trapezoid",
    "evaluation.flip=true",
    "evaluation.rerank=true",
]

CHANGES = ONE_PASS

ELSEWHERE = {
    "model.pretrained": "test_weights",
    "data.test_identities": "test_data",
    "evaluation.max_rank": "test_module",  # the length of a curve
    "preset": "test_module",
}


@pytest.fixture(scope="module")
def outcome(
    make_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    return Outcome(make_config, tmp_path_factory, TINY_REID)


@pytest.mark.parametrize("change", ONE_PASS)
def test_key_changes_the_computation(change: str, outcome: Outcome) -> None:
    assert outcome.differs(change)


def test_same_configuration_gives_the_same_figures(outcome: Outcome) -> None:
    assert outcome.repeats()


def test_every_key_is_looked_at(make_config: Callable[..., DictConfig]) -> None:
    keys = set()
    for name in ("vehicles", "veri data.root=.", "market data.root=.", "folder data.root=."):
        keys |= all_keys(make_config("task=reid", *f"data={name}".split()))
    elsewhere = tried(SHARED_CHANGES) | set(SHARED_ELSEWHERE) | set(ELSEWHERE)
    own = {key for key in keys if key.split(".")[0] in ("model", "loss", "evaluation")}
    assert keys - tried(CHANGES) - elsewhere - CHOSEN == set()
    assert own - tried(CHANGES) - set(ELSEWHERE) == set()

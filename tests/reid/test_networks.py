from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from reid.attention import NonLocal
from reid.pooling import GeM
from tests.reid.nets import (
    CLASSES,
    liven,
    make_images,
    make_network,
    refusal,
    small_vit,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


# Pooling


def test_gem_lies_between_average_and_maximum() -> None:
    maps = torch.rand(3, 4, 5, 6) + 0.1
    with torch.no_grad():
        torch.testing.assert_close(GeM(1.0)(maps), maps.mean((2, 3)))
        torch.testing.assert_close(GeM(2.0)(maps), maps.square().mean((2, 3)).sqrt())
        torch.testing.assert_close(GeM(3.0)(maps), maps.pow(3).mean((2, 3)).pow(1 / 3))
        near = GeM(1000.0)(maps * 100)  # 100 ** 1000 is beyond any float
        torch.testing.assert_close(near, maps.amax((2, 3)) * 100, rtol=0.005, atol=0)
        assert (GeM()(maps) > maps.mean((2, 3))).all()
        assert torch.equal(GeM()(-maps), GeM()(torch.zeros_like(maps)))


def test_gradient_of_gem() -> None:
    module = GeM().double()
    maps = (torch.rand(2, 3, 2, 2, dtype=torch.float64) + 0.1).requires_grad_()

    def pooled(values: Tensor, p: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"p": p}, values)

    torch.autograd.gradcheck(pooled, (maps, module.p))


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_pooling_of_the_last_map(pooling: str) -> None:
    network = make_network(pooling=pooling).eval()
    images = make_images()
    with torch.no_grad():
        maps = network.backbone(images)
        expected = {
            "avg": maps.mean((2, 3)),
            "max": maps.flatten(2).max(2).values,
            "gem": maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
        }[pooling]
        torch.testing.assert_close(network(images)["embedding"], expected)


def test_a_network_that_only_pools_its_own_way() -> None:
    text = refusal(lambda: make_network(backbone="efficientvit_b0"))
    assert "model.pooling=avg instead of native" in text
    with torch.device("meta"):
        assert make_network(backbone="efficientvit_b0", pooling="native").embedding_dim > 0


# Embedding, neck, classifier


@pytest.mark.parametrize("dim", [None, 24])
def test_the_projection(dim: int | None) -> None:
    """Linear, batch norm, ReLU, written out."""
    network = make_network(backbone="resnet18_fc512", embedding_dim=dim).eval()
    liven(network.projection)
    images = make_images()
    state = network.projection.state_dict()
    with torch.no_grad():
        pooled = network.backbone(images).mean((2, 3))
        out = network(images)
    assert out["feature"].shape[1] == network.embedding_dim == (dim or 512)
    normed = (pooled @ state["0.weight"].T - state["1.running_mean"]) / (
        state["1.running_var"] + 1e-5
    ).sqrt()
    expected = F.relu(normed * state["1.weight"] + state["1.bias"])
    torch.testing.assert_close(out["feature"], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(out["embedding"], out["feature"])
    assert out["feature"].max() > 0


def test_embedding_dim_works_on_every_backbone() -> None:
    network = make_network(embedding_dim=24)
    assert network(make_images())["feature"].shape == (2, 24)
    assert network.classifier.weight.shape == (CLASSES, 24)


def test_the_neck_normalises_what_the_classifier_and_retrieval_see() -> None:
    network = make_network(neck="bnneck").train()
    assert isinstance(network.neck, nn.BatchNorm1d)
    assert not network.neck.bias.requires_grad
    nn.init.uniform_(network.neck.weight, 0.5, 1.5)
    out = network(make_images(8))
    embedding, feature = out["embedding"], out["feature"]
    mean, var = embedding.mean(0), embedding.var(0, correction=0)
    expected = (embedding - mean) / (var + 1e-5).sqrt() * network.neck.weight
    torch.testing.assert_close(feature, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(out["logits"], feature @ network.classifier.weight.T)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, weight_decay=0.1)
    (out["logits"].logsumexp(1).sum() + embedding.square().sum()).backward()
    optimizer.step()
    assert (network.neck.bias == 0).all()
    network.eval()
    with torch.no_grad():
        out = network(make_images())
    running = (out["embedding"] - network.neck.running_mean) / (
        network.neck.running_var + 1e-5
    ).sqrt()
    torch.testing.assert_close(out["feature"], running * network.neck.weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("neck", ["none", "bnneck"])
def test_no_logits_of_strangers(neck: str) -> None:
    network = make_network(neck=neck)
    assert set(network.train()(make_images())) == {"embedding", "feature", "logits"}
    assert set(network.eval()(make_images())) == {"embedding", "feature"}


@pytest.mark.parametrize("scheme", ["native", "kaiming", "xavier", "normal", "orthogonal"])
def test_the_classifier_starts_near_zero(scheme: str) -> None:
    network = make_network(init_scheme=scheme)
    assert network.classifier.bias is None
    assert network.classifier.weight.std().item() == pytest.approx(0.001, rel=0.15)


def test_dropout_is_the_classifiers() -> None:
    for rate in (0.0, 0.9):
        network = make_network(dropout_rate=rate).train()
        images = make_images()
        first, second = network(images), network(images)
        for key in ("embedding", "feature"):
            assert torch.equal(first[key], second[key])
        assert torch.equal(first["logits"], second["logits"]) == (rate == 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "mobilenet_v3_small", "neck": "bnneck"},
        {"backbone": "resnet18_fc512_se", "pooling": "gem", "neck": "bnneck"},
        {"backbone": "resnet18_nonlocal", "pooling": "max", "embedding_dim": 16},
        {"backbone": "test_vit", "pooling": "avg"},
        {"backbone": "test_vit", "pooling": "native"},
        {"backbone": "vit_b_16", "pooling": "native"},
        {"backbone": "vit_b_16", "pooling": "gem"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_parameter_is_trained(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings["backbone"] == "vit_b_16":
        monkeypatch.setattr(torchvision.models, "get_model", small_vit)
    network = make_network(**settings).train()
    for module in network.modules():
        if isinstance(module, NonLocal):
            nn.init.ones_(module.bn.weight)  # from 0 the first step reaches only this weight
    out = network(make_images(4))
    weights = torch.linspace(-1, 1, out["embedding"].shape[1])
    (
        F.cross_entropy(out["logits"], torch.arange(4)) + (out["embedding"] @ weights).sum()
    ).backward()
    trained = {key: p.grad for key, p in network.named_parameters() if p.requires_grad}
    assert [key for key, gradient in trained.items() if gradient is None] == []
    assert [key for key, gradient in trained.items() if not gradient.any()] == []  # type: ignore[union-attr]
    frozen = [key for key, p in network.named_parameters() if not p.requires_grad]
    assert frozen == (["neck.bias"] if settings.get("neck") == "bnneck" else [])


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "avg"},
        {"pooling": "max", "neck": "bnneck"},
        {"pooling": "gem", "embedding_dim": 8},
        {"backbone": "vit_b_16", "pooling": "native"},
        {"backbone": "resnet18_nonlocal"},
    ],
)
def test_features_are_float32_under_autocast(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.get("backbone") == "vit_b_16":
        monkeypatch.setattr(torchvision.models, "get_model", small_vit)
    network = make_network(**settings).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(make_images())
    assert {value.dtype for value in out.values()} == {torch.float32}  # of maps in bfloat16
    assert all(value.isfinite().all() for value in out.values())


# Activation, norm, initial weights


def test_a_scheme_reaches_all_parts() -> None:
    def drawn(scheme: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return make_network(
            backbone="resnet18_fc512_se", init_scheme=scheme, activation="gelu"
        ).state_dict()

    native, normal = drawn("native"), drawn("normal")
    weights = [
        key
        for key, value in native.items()
        if value.numel() > 5000 and value.ndim > 1 and "classifier" not in key
    ]
    assert any("se.fc1" in key for key in weights) and "projection.0.weight" in weights
    for key in weights:
        assert not torch.equal(native[key], normal[key])
        assert normal[key].std().item() == pytest.approx(0.02, rel=0.1)


def test_activation_and_norm_everywhere() -> None:
    network = make_network(backbone="resnet18_fc512_se", activation="gelu", norm="group")
    kinds = {type(m) for m in network.modules()}
    assert nn.GELU in kinds and nn.GroupNorm in kinds
    assert nn.ReLU not in kinds and nn.BatchNorm2d not in kinds
    assert isinstance(network.projection[2], nn.GELU)  # type: ignore[index]
    assert network.eval()(make_images(1))["feature"].isfinite().all()


def test_convolutions_are_channels_last() -> None:
    network = make_network()
    convolutions = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1
    ]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)

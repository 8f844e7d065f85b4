from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from phasewise.errors import UserError
from phasewise.networks import backbones
from phasewise.networks.backbones import build_backbone
from segmentation.architectures import OF_SMP, OURS, RESIDUAL
from segmentation.networks import SMP, SegmentationNetwork
from segmentation.unet import DropBlock
from tests.conftest import SHARED

SIZE = 64
TINY = "test_resnet"  # timm's smallest
MOBILENET = SHARED / "weights" / "mobilenet_v2_features.pth"
ARCHITECTURES = [*OURS, *OF_SMP]
PROBE = cache(backbones._probe)  # a third of the time that a tiny network takes
CLASSES = {
    "smp_unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same numbers each time, and no connection: what is asked for by mistake fails."""
    from huggingface_hub import constants

    torch.manual_seed(0)
    monkeypatch.setattr(backbones, "_probe", PROBE)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def _network(architecture: str, image_size: int = SIZE, **settings: Any) -> SegmentationNetwork:
    known: dict[str, Any] = {
        "backbone": None if architecture in OURS else TINY,
        "pretrained": False,
        "in_channels": 3,
        "width": 4,
        "depth": None,
        "activation": "native",
        "init_scheme": "native",
        "norm": "batch",
        "dropout_rate": 0.0,
        "norm_momentum": 0.01,
        "dropout_type": "element",
        "head_norm": False,
    }
    torch.manual_seed(0)
    return SegmentationNetwork(image_size, architecture=architecture, **{**known, **settings})


def _images(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def _logits(network: nn.Module, training: bool = False) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        return _finest(network.train(training)(_images()))


def _finest(logits: Tensor | list[Tensor]) -> Tensor:
    """Without those that deep supervision is about."""
    return logits if isinstance(logits, Tensor) else logits[0]


def _refusal(architecture: str, image_size: int = SIZE, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        _network(architecture, image_size, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# Sizes


@pytest.mark.parametrize(
    ("architecture", "channels", "total", "trained"),
    [
        ("unet", 1, 31_401_349, 31_389_571),
        ("attention_unet", 1, 37_333_513, 37_317_895),
        ("attention_resunet", 1, 39_089_097, 39_067_591),
        ("unet", 3, 31_402_501, 31_390_723),
        ("attention_unet", 3, 37_334_665, 37_319_047),
        ("attention_resunet", 3, 39_090_377, 39_068_871),
        # attention_resunet less its gates: per level, of s skip and 2s deep channels,
        # convolutions of 2ss + s, 4ss + s, ss + s, 9ss + s, s + 1, ss + s, and two norms
        ("resunet", 1, 39_089_097 - 5_932_164, 39_067_591 - 5_928_324),
    ],
)
def test_parameter_counts_of_the_keras_networks(
    architecture: str, channels: int, total: int, trained: int
) -> None:
    with torch.device("meta"):
        network = _network(architecture, in_channels=channels, width=64, head_norm=True)
    parameters = sum(p.numel() for p in network.parameters())
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert parameters == trained
    assert parameters + statistics == total


@pytest.mark.parametrize("architecture", CLASSES)
def test_width_16_is_the_default_of_smp(architecture: str) -> None:
    with torch.device("meta"):
        ours = _network(architecture, backbone=None, width=16).network
        theirs = CLASSES[architecture]("resnet18", encoder_weights=None)
    for part in ("encoder", "decoder", "segmentation_head"):
        shapes = [
            [tuple(value.shape) for value in getattr(network, part).state_dict().values()]
            for network in (ours, theirs)
        ]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("architecture", CLASSES)
def test_the_same_logits_as_smp(architecture: str) -> None:
    """With our weights in SMP's own network: nothing of ours comes between."""
    network = _network(architecture, width=16).eval()
    theirs = CLASSES[architecture](f"tu-{TINY}", encoder_weights=None).eval()
    state = zip(network.state_dict().values(), theirs.state_dict(), strict=True)
    theirs.load_state_dict({name: value for value, name in state})
    with torch.no_grad():
        torch.testing.assert_close(network(_images()), theirs(_images())[:, 0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_every_architecture_at_every_size(architecture: str) -> None:
    network = _network(architecture, in_channels=1)
    for size in (SIZE, 2 * SIZE):
        logits = _finest(network(_images(size=size)))
        assert logits.shape == (2, size, size)
        assert logits.std() > 1e-4
    assert network.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_depth(architecture: str) -> None:
    counts = []
    for depth in (3, None, 5) if architecture in OURS else (3, 4, None):
        network = _network(architecture, depth=depth)
        assert _finest(network(_images())).shape == (2, SIZE, SIZE)
        assert all(p.requires_grad for p in network.parameters())
        counts.append(sum(p.numel() for p in network.parameters()))
    assert len(set(counts)) == 3


@pytest.mark.parametrize(("architecture", "depth"), [("unet", 4), ("smp_unet", 5), ("fpn", 5)])
def test_default_depth(architecture: str, depth: int) -> None:
    shapes = []
    for given in (None, depth):
        with torch.device("meta"):
            state = _network(architecture, depth=given).state_dict()
        shapes.append({name: value.shape for name, value in state.items()})
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("architecture", "backbone"),
    [
        ("smp_unet", "swin_tiny_patch4_window7_224"),
        ("unetplusplus", "convnext_atto"),
        ("manet", "mit_b0"),
        ("deeplabv3plus", "mobilenet_v2"),
    ],
)
def test_backbones_of_all_kinds(architecture: str, backbone: str) -> None:
    network = _network(architecture, 96, backbone=backbone)
    logits = network(_images(size=96))
    assert logits.shape == (2, 96, 96)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("architecture", ["fpn", "deeplabv3plus"])
def test_the_backbone_that_refusals_recommend(architecture: str) -> None:
    for depth in (3, 4, 5):
        with torch.device("meta"):
            _network(architecture, backbone="resnet18", depth=depth)


def test_weights_and_images_are_channels_last() -> None:
    for architecture in ("attention_resunet", "smp_unet"):
        network = _network(architecture)
        for weight in network.parameters():
            if weight.ndim == 4:
                assert weight.is_contiguous(memory_format=torch.channels_last)
        network.network = nn.Conv2d(3, 1, 1)
        seen: list[Any] = []
        network.network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs))
        network(_images())
        assert seen[0][0].is_contiguous(memory_format=torch.channels_last)


# Gradients


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        *((architecture, {}) for architecture in ARCHITECTURES),
        ("smp_unet", {"backbone": "efficientnet-b0"}),
        ("unetplusplus", {"backbone": "vgg11_bn"}),
        ("fpn", {"backbone": "resnet18", "depth": 4}),
        ("smp_unet", {"backbone": "resnet18", "depth": 3}),
        ("segformer", {"backbone": "mit_b0", "depth": 4}),
    ],
)
def test_parameters_without_a_gradient_ask_for_none(
    architecture: str, settings: dict[str, Any]
) -> None:
    # MiT reads numbers from tensors, which is impossible without memory.
    with torch.device("meta" if settings and settings["backbone"] != "mit_b0" else "cpu"):
        network = _network(architecture, **settings).train()
        scales = network(torch.randn(2, 3, SIZE, SIZE))
        for scale in [scales] if isinstance(scales, Tensor) else scales:
            scale.square().mean().backward(retain_graph=True)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert bool(frozen) == bool(settings)


@pytest.mark.parametrize(("depth", "unused"), [(3, ["layer3", "layer4"]), (4, ["layer4"]), (5, [])])
def test_only_stages_beyond_the_depth_are_frozen(depth: int, unused: list[str]) -> None:
    with torch.device("meta"):
        encoder = _network("smp_unet", backbone="resnet18", depth=depth).network.encoder
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad != (name.split(".")[0] in unused), name


def test_trying_the_network_leaves_no_trace() -> None:
    with torch.no_grad():  # not even where gradients are off
        network = _network("smp_unet")
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.num_batches_tracked == 0 for m in norms)


# Every key bites


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_key_bites(architecture: str) -> None:
    network = _network(architecture)
    native, count = _logits(network), sum(p.numel() for p in network.parameters())
    training = _logits(network, True)
    for key, value in {"width": 8, "in_channels": 1, "head_norm": True}.items():
        changed = _network(architecture, **{key: value})
        assert sum(p.numel() for p in changed.parameters()) != count, key
        assert not torch.allclose(_logits(changed, True), training, atol=1e-3), key
    for key, value in {"activation": "gelu", "norm": "group", "init_scheme": "normal"}.items():
        changed = _network(architecture, **{key: value})
        assert not torch.allclose(_logits(changed), native, atol=1e-4), key
        for kind in (nn.Sigmoid, nn.Softmax):  # gates are no activations
            gates = [sum(isinstance(m, kind) for m in n.modules()) for n in (network, changed)]
            assert gates[0] == gates[1]
    changed = _network(architecture, dropout_rate=0.5)
    assert torch.equal(_logits(changed), native)
    assert not torch.allclose(_logits(changed, True), training, atol=1e-3)
    if architecture in SMP:
        changed = _network(architecture, backbone="test_efficientnet")
        assert not torch.allclose(_logits(changed), native, atol=1e-3)


@pytest.mark.parametrize(
    "architecture", ["unet", "resunet", "attention_resunet", "nnunet", "smp_unet"]
)
def test_every_dropout_is_another(architecture: str) -> None:
    kinds = ["element", "channel", "block"] + ["depth"] * (architecture in RESIDUAL)
    network = _network(architecture)
    evaluated, training = _logits(network), [_logits(network, True)]
    for kind in kinds:
        for rate in (0.2, 0.5):
            network = _network(architecture, dropout_rate=rate, dropout_type=kind)
            assert torch.equal(_logits(network), evaluated), kind
            training.append(_logits(network, True))
    for i, one in enumerate(training):
        assert all(not torch.allclose(one, other, atol=1e-4) for other in training[i + 1 :])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_are_swapped_but_the_head_norm_stays(architecture: str) -> None:
    network = _network(architecture, activation="silu", norm="group", head_norm=True)
    if "attention" in architecture:
        assert sum(isinstance(m, nn.Sigmoid) for m in network.modules()) == 4
    assert not any(isinstance(m, nn.ReLU) for m in network.modules())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.num_features for m in norms] == [1]
    assert _finest(network.train()(_images(1))).isfinite().all()  # of a single image


@pytest.mark.parametrize("architecture", ["unet", "smp_unet", "fpn"])
def test_head_norm_makes_logits_standard(architecture: str) -> None:
    network = _network(architecture, head_norm=True).train()
    (norm,) = [m for m in network.network.segmentation_head if isinstance(m, nn.BatchNorm2d)]
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    found = []
    norm.register_forward_hook(lambda _, inputs, out: found.append((inputs[0], out)))
    logits = network(_images())
    before, after = found[0]
    wanted = (before - before.mean()) / (before.var(correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=1e-4)
    assert after.shape[-1] == (SIZE // 4 if architecture == "fpn" else SIZE)
    wanted = nn.functional.interpolate(  # upsampling comes after it
        after, logits.shape[-2:], mode="bilinear", align_corners=True
    )
    torch.testing.assert_close(logits, wanted[:, 0])


@pytest.mark.parametrize(
    ("kind", "layer"),
    [("element", nn.Dropout), ("channel", nn.Dropout2d), ("block", DropBlock)],
)
@pytest.mark.parametrize("architecture", ["smp_unet", "fpn", "deeplabv3plus"])
def test_the_only_dropout_of_smp_is_before_the_head(
    architecture: str, kind: str, layer: type[nn.Module]
) -> None:
    network = _network(architecture, dropout_rate=0.4, dropout_type=kind)
    assert type(network.network.segmentation_head[0]) is layer
    kinds = (nn.Dropout, nn.Dropout2d, DropBlock)
    rates = [getattr(m, "p", None) for m in network.network.decoder.modules() if type(m) in kinds]
    assert not any(rates)


# Channels


def _normalised(images: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    return (images - mean) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.mark.parametrize("architecture", ["unet", "smp_unet"])
def test_one_channel_is_the_mean(architecture: str) -> None:
    network = _network(architecture, in_channels=1).eval()
    seen: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    grey = torch.rand(2, 1, SIZE, SIZE)
    network(_normalised(grey.expand(-1, 3, -1, -1)))
    assert seen[0].shape == (2, 1, SIZE, SIZE)
    # an affine function of grey: two images fix it, all others follow
    low, high = (_normalised(torch.full((1, 3, 1, 1), v)).mean() for v in (0.0, 1.0))
    torch.testing.assert_close(seen[0], low + grey * (high - low))
    images = _images()
    with torch.no_grad():
        torch.testing.assert_close(network(images), network(images.flip(1)), atol=1e-5, rtol=1e-4)


# Weights


def _source(file: Path) -> nn.Module:
    """A backbone with norms that are not as new, saved."""
    source = build_backbone(TINY, SIZE)
    for norm in source.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight)
            assert norm.running_mean is not None
            norm.running_mean.uniform_()
    torch.save(source.state_dict(), file)
    return source


@pytest.mark.parametrize("architecture", ["smp_unet", "fpn", "deeplabv3plus"])
def test_pretrained_backbones_keep_norms_and_weights(architecture: str, tmp_path: Path) -> None:
    source = _source(tmp_path / "weights.pth").state_dict()
    network = _network(
        architecture,
        width=8,
        pretrained=str(tmp_path / "weights.pth"),
        init_scheme="kaiming",
        norm="batch" if architecture == "fpn" else "group",  # fpn's decoder always has group norm
        activation="gelu",
    ).network
    loaded = network.encoder.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.equal(loaded[key], value) for key, value in source.items())
    # The decoder is changed all the same, and the activation is everybody's.
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.decoder.modules())
    layers = [m for m in network.decoder.modules() if isinstance(m, nn.Conv2d)]
    large = [layer for layer in layers if layer.weight.numel() > 1000]
    assert large
    for layer in large:
        fan = layer.out_channels * math.prod(layer.kernel_size)
        if layer.groups == 1:
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.15)
    assert not any(isinstance(m, nn.ReLU) for m in network.modules())
    assert any(isinstance(m, nn.GELU) for m in network.encoder.modules())


@pytest.mark.parametrize(
    ("backbone", "depth"),
    [(TINY, 3), ("mobilenet_v2", 3), ("convnext_atto", 4), ("mobilenetv3_small_050", 3)],
)
def test_weights_of_a_whole_backbone_for_a_part(backbone: str, depth: int, tmp_path: Path) -> None:
    source = build_backbone(backbone, SIZE).state_dict()
    torch.save(source, tmp_path / "weights.pth")
    file = str(tmp_path / "weights.pth")
    network = _network("smp_unet", backbone=backbone, depth=depth, pretrained=file)
    loaded = network.network.encoder.state_dict()
    assert len(loaded) > 10
    assert all(torch.equal(value, source[key]) for key, value in loaded.items())


def test_a_real_file_of_weights() -> None:
    if not MOBILENET.is_file():
        pytest.skip("no weights on this machine (../shared/weights)")
    network = _network("smp_unet", backbone="mobilenet_v2", pretrained=str(MOBILENET))
    state, loaded = torch.load(MOBILENET, weights_only=True), network.network.encoder.state_dict()
    names = [name for name in loaded if "num_batches" not in name]
    assert len(names) > 200
    assert all(torch.equal(loaded[name], state[name]) for name in names)
    assert network(_images()).isfinite().all()


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    _source(tmp_path / "weights.pth")
    text = _refusal("smp_unet", backbone="resnet18", pretrained=str(tmp_path / "weights.pth"))
    assert "do not fit model.backbone=resnet18" in text
    assert "no such file" in _refusal("fpn", pretrained="nowhere.pth")


def test_downloads_without_internet() -> None:
    text = _refusal("smp_unet", pretrained=True)
    assert "could be downloaded (http://127.0.0.1:9 cannot be reached" in text


@pytest.mark.parametrize(
    ("backbone", "name", "weights"),
    [("mobilenet_v2", "mobilenet_v2", "imagenet"), (TINY, f"tu-{TINY}", True)],
)
def test_downloaded_weights_are_used(
    backbone: str, name: str, weights: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = build_backbone(backbone, SIZE)

    def get_encoder(asked: str, **settings: object) -> nn.Module:
        assert asked == name
        assert settings["weights"] == weights
        return source

    monkeypatch.setattr("segmentation.networks.get_encoder", get_encoder)
    monkeypatch.setattr("segmentation.networks.fetch", lambda _, build: build())
    network = _network("smp_unet", backbone=backbone, pretrained=True, init_scheme="normal")
    loaded, wanted = network.network.encoder.state_dict(), source.state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.items())


# What does not go together


@pytest.mark.parametrize(
    ("backbone", "sizes", "refused"),
    [
        ("swin_tiny_patch4_window7_224", (96, 64), 64),
        ("maxvit_rmlp_pico_rw_256", (192, 128), 128),  # multiples of its own only
        ("mvitv2_tiny", (64, 128), 128),  # up to its own only
    ],
)
def test_backbones_of_a_fixed_size(backbone: str, sizes: tuple[int, int], refused: int) -> None:
    network = _network("smp_unet", 96, backbone=backbone)
    with pytest.raises(UserError) as caught:
        network.check_sizes(sizes)
    told = f"data.image_size_schedule: model.backbone={backbone} is built for data.image_size=96 "
    assert str(caught.value).startswith(f"{told}and cannot take {refused}x{refused} images; ")
    assert "\n" not in str(caught.value)
    network.check_sizes({*sizes} - {refused})
    assert network.training
    with pytest.raises((AssertionError, IndexError)):  # what training would have come to
        network(_images(size=refused))


@pytest.mark.parametrize(
    ("architecture", "backbone"),
    [("unet", None), ("smp_unet", TINY), ("fpn", "twins_svt_small"), ("segformer", "mit_b0")],
)
def test_backbones_of_any_size(architecture: str, backbone: str | None) -> None:
    network = _network(architecture, 96, backbone=backbone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.check_sizes([32, 64, 96, 128])
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "backbone", "depth", "pretrained", "told"),
    [
        ("smp_unet", "vit_tiny_patch16_224", None, False, "one scale only"),
        ("segformer", "vit_tiny_patch16_224", None, True, "one scale only"),
        ("deeplabv3plus", "swin_tiny_patch4_window7_224", None, False, "output_stride"),
        ("unetplusplus", "mit_b0", None, True, "mit_b0"),
        ("fpn", "convnext_atto", 4, True, "depth 4"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_backbones_that_an_architecture_cannot_use(
    architecture: str, backbone: str, depth: int | None, pretrained: bool, told: str
) -> None:
    with torch.device("meta"):
        text = _refusal(architecture, 96, backbone=backbone, depth=depth, pretrained=pretrained)
    assert f"model.backbone={backbone}" in text
    assert f"model.architecture={architecture}" in text
    assert told in text
    assert "download" not in text  # which would not help


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a not in RESIDUAL])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_stochastic_depth_wants_residual_branches(architecture: str, rate: float) -> None:
    text = _refusal(architecture, dropout_type="depth", dropout_rate=rate)
    assert "model.dropout_type=depth" in text
    assert "depth with resunet and attention_resunet" in text


@pytest.mark.parametrize(
    ("architecture", "image_size", "settings", "told"),
    [
        ("unet", 72, {}, "multiple of 16"),
        ("unet", 72, {"depth": 5}, "multiple of 32"),
        ("attention_resunet", 66, {"depth": 2}, "multiple of 4"),
        ("smp_unet", 80, {}, "multiple of 32"),
        ("unet", 64, {"backbone": TINY}, "model.backbone=null"),
        ("unet", 64, {"pretrained": True}, "model.pretrained=false"),
        ("smp_unet", 64, {"pretrained": True, "in_channels": 1}, "model.in_channels=3"),
        ("fpn", 64, {"width": 6}, "multiple of 4"),
        ("transunet", 64, {"width": 6}, "multiple of 4"),
        ("nnunet", 64, {"depth": 6}, "multiple of 64, 128 or more,"),
        ("fpn", 64, {"pretrained": True, "norm": "group"}, "changes nothing"),
    ],
)
def test_settings_that_do_not_go_together(
    architecture: str, image_size: int, settings: dict[str, Any], told: str
) -> None:
    assert told in _refusal(architecture, image_size, **settings)


@pytest.mark.parametrize(("depth", "image_size"), [(2, 36), (3, 24), (5, 32), (6, 64)])
def test_any_multiple_of_two_to_the_depth(depth: int, image_size: int) -> None:
    network = _network("attention_unet", image_size, depth=depth, width=2)
    for size in (image_size, 2 * image_size):
        assert network(_images(size=size)).shape == (2, size, size)

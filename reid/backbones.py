"""Backbones by name as feature maps: torchvision's networks, variants of them, and timm's.

Every backbone takes images ``(B, 3, S, S)`` and returns its last map ``(B, C, H, W)``, before any
pooling. With the pooling ``native``, networks that do not simply average their map (a vision
transformer's class token, timm's heads) return their own summary as a map of one place.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vision_transformer import interpolate_embeddings

from phasewise.config.backbone_names import timm_names
from phasewise.errors import UserError
from phasewise.networks.backbones import (
    HUB_TIMEOUT,
    LATER,
    building,
    check_drop_path,
    drop_path,
    fetch,
    fit_weights,
    read_weights,
)
from phasewise.networks.weights import Download, chosen_file
from reid.attention import ADDED, NonLocal, SEBasicBlock, SEBottleneck
from reid.backbone_names import NAMED, Variant, backbone_weight_names, without_drop_path

_BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (SEBasicBlock, [2, 2, 2, 2]),
    "resnet34": (SEBasicBlock, [3, 4, 6, 3]),
    "resnet50": (SEBottleneck, [3, 4, 6, 3]),
}

_HEADS = ("avgpool", "flatten", "fc", "head", "classifier")
"""What torchvision calls the parts behind the last map."""

_NONLOCAL_WIDTH = 256
"""Channels behind the third stage of resnet18."""

_POSITIONS = "encoder.pos_embedding"


class VisionTokens(nn.Module):
    """torchvision's vision transformer without its classifier.

    Args:
        vit: the transformer, built for the size of the images.
        summary: return the class token instead of the map of the patches' tokens.
    """

    def __init__(self, vit: VisionTransformer, summary: bool) -> None:
        super().__init__()
        self.summary = summary
        self.class_token = vit.class_token
        self.conv_proj = vit.conv_proj
        self.encoder = vit.encoder

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to ``(B, C, 1, 1)`` or ``(B, C, S / patch, S / patch)``."""
        patches = self.conv_proj(images)
        # Not len(images), which is a constant in a network that is exported.
        class_token = self.class_token.expand(images.shape[0], -1, -1)
        tokens = self.encoder(torch.cat([class_token, patches.flatten(2).transpose(1, 2)], 1))
        if self.summary:
            return tokens[:, 0, :, None, None]
        return tokens[:, 1:].transpose(1, 2).unflatten(2, patches.shape[2:])


class TimmMap(nn.Module):
    """A network of timm without its classifier, whatever the layout of its output.

    Args:
        model: gives vectors (B, C), tokens (B, N, C), or a map with the channels first or last.
        width: channels of the output.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.model = model
        self.width = width
        self.prefix = int(getattr(model, "num_prefix_tokens", 0))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to ``(B, C, H, W)``; of tokens, ``(B, C, N, 1)``."""
        out = self.model(images)
        if out.ndim == 2:
            return out[:, :, None, None]
        if out.ndim == 3:
            return out[:, self.prefix :].transpose(1, 2).unsqueeze(3)
        return out if out.shape[1] == self.width else out.permute(0, 3, 1, 2)


def build_backbone(
    name: str,
    image_size: int,
    *,
    pretrained: bool | str = False,
    last_stride: int = 2,
    pooling: str = "avg",
    drop_path_rate: float = 0.0,
) -> tuple[nn.Module, int]:
    """Make a backbone.

    Args:
        name: see `reid.backbone_names.is_backbone`. A name that both libraries have is timm's, but
            for those of `NAMED`.
        image_size: side of the images in pixels; transformers are built for it.
        pretrained: ``True`` downloads ImageNet weights (of torchvision's networks the first
            generation, IMAGENET1K_V1, that the published results start from), a path loads a
            weights file, or that of a folder that is called as the backbone or the network that it
            is made from; a `Download` fetches what its folder lacks.
        last_stride: 1 doubles the map by taking the stride out of the last stage.
        pooling: ``native`` or another; see the module's docstring.
        drop_path_rate: of timm's, see `phasewise.networks.backbones.drop_path`.

    Returns:
        The backbone and the channels of its map.

    Raises:
        UserError: it cannot be built, its weights cannot be had or do not fit, or it has no stride
            to be taken away.
    """
    if drop_path_rate and (reason := without_drop_path(name)):
        raise UserError(f"model.drop_path_rate={drop_path_rate:g}: {reason}")
    check_drop_path(name, drop_path_rate)
    native = pooling == "native"
    complaint = f"model.backbone={name}: cannot be built for {image_size}x{image_size} images"
    if not native:
        complaint += f" with model.pooling={pooling} instead of native"
    with building(complaint):
        if name in NAMED or name.split(".", 1)[0] not in timm_names():
            backbone = _from_torchvision(name, image_size, pretrained, native)
        else:
            backbone = _from_timm(name, image_size, pretrained, native, drop_path_rate)
        width = _try(backbone, image_size).shape[1]
    if last_stride == 1:
        _take_last_stride(backbone, name, image_size)
    return backbone, width


def _from_torchvision(
    name: str, image_size: int, pretrained: bool | str, native: bool
) -> nn.Module:
    variant = NAMED.get(name, Variant(name))
    if variant.attention == "se":
        network: nn.Module = ResNet(*_BLOCKS[variant.body])
    else:
        network = torchvision.models.get_model(variant.body, **_sized(variant.body, image_size))
    if isinstance(network, VisionTransformer):
        backbone: nn.Module = VisionTokens(network, native)
    else:
        parts = OrderedDict(
            (key, nn.Sequential(*part) if isinstance(part, nn.ModuleList) else part)
            for key, part in network.named_children()
            if key not in _HEADS
        )
        if variant.attention == "nonlocal":
            last = parts.pop("layer4")
            # Not called by a word of Python's, which torch.export makes code of.
            parts |= {"attention": NonLocal(_NONLOCAL_WIDTH), "layer4": last}
        backbone = nn.Sequential(parts)
    backbone.added = tuple(  # type: ignore[assignment]
        f"{key}." for key, module in backbone.named_modules() if isinstance(module, ADDED)
    )
    if pretrained and pretrained != LATER:
        _load(backbone, name, variant.body, image_size, pretrained)
    return backbone


def _sized(body: str, image_size: int) -> dict[str, Any]:
    if body.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if body.startswith("maxvit_") else {}


def _load(
    backbone: nn.Module, name: str, body: str, image_size: int, pretrained: bool | str
) -> None:
    if pretrained is True:
        found: Mapping[str, Tensor] = fetch(name, partial(_download, body), _impatient)
        source = "model.pretrained=true"
    else:
        names = backbone_weight_names(name)
        if isinstance(pretrained, Download):
            pretrained.bring(names, lambda: fetch(name, partial(_download, body), _impatient))
        file = chosen_file(str(pretrained), names)
        found = read_weights(file)
        source = f"model.pretrained={file}"
    if isinstance(backbone, VisionTokens):
        patch = backbone.conv_proj.kernel_size[0]
        found = {key: _resized(key, value, image_size, patch) for key, value in found.items()}
    fit_weights(backbone, found, source, name)


def _download(body: str) -> Mapping[str, Tensor]:
    offered = torchvision.models.get_model_weights(body)
    first = "IMAGENET1K_V1"
    weights = offered[first] if first in offered.__members__ else offered.DEFAULT
    return weights.get_state_dict(progress=True, check_hash=True)


@contextmanager
def _impatient() -> Iterator[None]:
    """torch's downloads wait for ever for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(HUB_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _resized(key: str, value: Tensor, image_size: int, patch: int) -> Tensor:
    """A table of positions for another size of images, as torchvision does it."""
    if not key.endswith(_POSITIONS):
        return value
    return interpolate_embeddings(image_size, patch, OrderedDict({_POSITIONS: value}))[_POSITIONS]


def _from_timm(
    name: str, image_size: int, pretrained: bool | str, native: bool, drop_path_rate: float
) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0, **drop_path(drop_path_rate)}
    options |= {} if native else {"global_pool": ""}
    with torch.device("meta"):
        try:
            timm.create_model(name, img_size=image_size, **options)
            options["img_size"] = image_size
        except TypeError:  # convolutional networks take any size
            timm.create_model(name, **options)
    make = partial(timm.create_model, name, **options)
    model: Any = fetch(name, partial(make, pretrained=True)) if pretrained is True else make()
    if isinstance(pretrained, str) and pretrained != LATER:
        if isinstance(pretrained, Download):
            get = partial(make, pretrained=True)
            pretrained.bring([name], lambda: fetch(name, get).state_dict())
        file = chosen_file(pretrained, [name])
        fit_weights(model, read_weights(file), f"model.pretrained={file}", name)
    return TimmMap(model, getattr(model, "head_hidden_size", None) or model.num_features)


@torch.no_grad()
def _try(backbone: nn.Module, image_size: int) -> Tensor:
    """The map of a black image; some networks find out only now that a window does not fit."""
    backbone.eval()
    last = backbone(torch.zeros(1, 3, image_size, image_size))
    backbone.train()
    return last


def _take_last_stride(backbone: nn.Module, name: str, image_size: int) -> None:
    """Let the last layers that halve the map keep its size: convolutions get stride 1, pooling is
    left out. Weights stay as they are (Luo et al. 2019, section 3.5)."""
    network = _Spatial(backbone.model) if isinstance(backbone, TimmMap) else backbone
    try:
        done = _doubled(network, image_size)
    except Exception:  # the two ways through a block end in different sizes, or in several maps
        done = False
    if not done:
        raise UserError(
            f"model.last_stride=1: the last stage of {name} has no stride that can be taken away; "
            "it can from resnets, mobilenet_v2, mobilenet_v3_small, vgg16 and most other "
            "convolutional networks"
        )


def _doubled(network: nn.Module, image_size: int) -> bool:
    """Take the last stride away, and say whether the last map has the size from before it."""
    halving, last = _halving(network, image_size)
    side = min(halving.values(), default=0)
    if side <= 1 or last not in (side // 2, (side + 1) // 2):
        return False
    for key in [key for key, taken in halving.items() if taken == side]:
        layer = network.get_submodule(key)
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
        else:
            parent, _, child = key.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
    return _try(network, image_size).shape[2] == side


class _Spatial(nn.Module):
    """A network of timm up to its last map, also if it pools."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_features(images)


def _halving(network: nn.Module, image_size: int) -> tuple[dict[str, int], int]:
    """The layers with stride 2 by name, each with the side of the map that it takes, and the side
    of the last map (B, C, H, W) or (B, H, W, C)."""
    sides: dict[str, int] = {}

    def note(key: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[key] = inputs[0].shape[-1]

    hooks = [
        layer.register_forward_pre_hook(partial(note, key))
        for key, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
        and layer.stride in (2, (2, 2))
    ]
    last = _try(network, image_size)
    for hook in hooks:
        hook.remove()
    return sides, last.shape[2]

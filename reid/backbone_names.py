"""Which backbones re-identification offers, told without importing torch (a wrong name is to be
refused at once)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from phasewise.config.backbone_names import DROPPING, timm_names

_TORCHVISION_NAME = re.compile(r"^@register_model\(.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)

_UNUSED = frozenset({"googlenet"})
"""Its weights expect inputs of another normalisation, and its maps have no place of their own."""


@dataclass(frozen=True)
class Variant:
    """A backbone of torchvision and what is changed about it.

    ``body``: torchvision's name. ``fc512``: the last stage keeps stride 1, and a linear layer with
    batch norm and ReLU makes the feature 512 wide. ``attention``: ``se`` puts a
    squeeze-and-excitation into every residual block, ``nonlocal`` one non-local block behind the
    third stage.
    """

    body: str
    fc512: bool = False
    attention: str = ""


_RESNETS = {
    f"{body}{'_fc512' * fc512}{'_se' * se}": Variant(body, fc512, "se" * se)
    for body in ("resnet18", "resnet34", "resnet50")
    for se in (False, True)
    for fc512 in (False, True)
}

NAMED: dict[str, Variant] = {
    "mobilenet_v3_small": Variant("mobilenet_v3_small"),
    "mobilenet_v2": Variant("mobilenet_v2"),
    "vgg16": Variant("vgg16"),
    **_RESNETS,
    "resnet18_nonlocal": Variant("resnet18", attention="nonlocal"),
    "vit_b_16": Variant("vit_b_16"),
}
"""The backbones that have a name here; timm's and torchvision's others come on top."""


def backbone_weight_names(name: str) -> list[str]:
    """What a file with the weights of a backbone may be called."""
    return [name, NAMED[name].body] if name in NAMED else [name]


@cache
def torchvision_names() -> frozenset[str]:
    """Classification networks of torchvision."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return frozenset()
    texts = (
        p.read_text(encoding="utf-8") for p in (Path(spec.origin).parent / "models").glob("*.py")
    )
    return frozenset(name for text in texts for name in _TORCHVISION_NAME.findall(text)) - _UNUSED


def without_drop_path(name: str) -> str:
    """Why ``model.drop_path_rate`` is not for a backbone of torchvision's; empty if it may be."""
    if name not in NAMED and name.split(".", 1)[0] in timm_names():
        return ""
    return (
        f"{name} is torchvision's here, without stochastic depth; timm's have it, e.g. {DROPPING}"
    )


def is_backbone(name: str) -> bool:
    """Whether ``name`` is one of `NAMED`, a timm architecture (``name.tag`` included) or a
    classification network of torchvision."""
    return name in NAMED or name.split(".", 1)[0] in timm_names() or name in torchvision_names()

"""Which backbones the installed SMP and timm offer, found without importing them (that takes
seconds, and a wrong name is to be refused at once)."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

DROPPING = "resnet18d, convnext_tiny, efficientnet_b0, swin_tiny_patch4_window7_224"
"""Backbones with stochastic depth, for messages."""

_SMP_NAME = re.compile(r'^    "([\w-]+)": \{', re.MULTILINE)
_TIMM_NAME = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


def _sources(package: str, folder: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / folder).glob("*.py"))


def _names(package: str, folder: str, pattern: re.Pattern[str]) -> frozenset[str]:
    texts = (path.read_text(encoding="utf-8") for path in _sources(package, folder))
    return frozenset(name for text in texts for name in pattern.findall(text))


@cache
def smp_names() -> frozenset[str]:
    """Encoders that come with segmentation-models-pytorch itself."""
    names = _names("segmentation_models_pytorch", "encoders", _SMP_NAME)
    return frozenset(name for name in names if not name.startswith(("timm-", "tu-")))


@cache
def timm_names() -> frozenset[str]:
    """Architectures of timm, without the tag of their weights."""
    return _names("timm", "models", _TIMM_NAME)


def without_drop_path(name: str) -> str:
    """Why ``model.drop_path_rate`` is not for a backbone of SMP's own; empty if it may be."""
    if name not in smp_names():
        return ""
    return f"{name} is SMP's, without stochastic depth; timm's have it, e.g. {DROPPING}"


def is_backbone(name: str) -> bool:
    """Whether ``name`` is an SMP encoder or a timm architecture (``name.tag`` included)."""
    return name in smp_names() or name.split(".", 1)[0] in timm_names()

"""Names of backbones, which timm knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from phasewise.errors import UserError

Make = Callable[..., DictConfig]


def test_what_nobody_knows_is_refused(make_config: Make) -> None:
    with pytest.raises(UserError, match=r"^model\.backbone=resnet19: neither an SMP encoder nor"):
        make_config("model.backbone=resnet19")


def test_one_of_timm_is_accepted(make_config: Make) -> None:
    make_config("model.backbone=swin_tiny_patch4_window7_224", "model.pretrained=true")

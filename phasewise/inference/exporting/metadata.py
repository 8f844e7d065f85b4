"""What an exported file says of itself: how images are prepared, what the outputs mean."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from phasewise.augment.color import MEAN, STD
from phasewise.data.images import PADDING_COLOUR
from phasewise.inference.exporting.formats import INPUT, Deployed
from phasewise.inference.restore import Restored
from phasewise.records.record import environment

PATHS = (("data", "root"), ("data", "cache_dir"), ("init_from",))
"""Keys of the config that name places of one machine, which are nobody else's business."""


@torch.no_grad()
def export_metadata(
    trained: Restored, network: Deployed, example: Tensor, batch: int | None
) -> dict[str, Any]:
    """The metadata as plain containers, without what the comparison finds.

    Args:
        trained: what is exported.
        network: the same.
        example: normalised images.
        batch: how many at once; None = any number.
    """
    size, count = trained.image_size, batch or "batch"
    notes = network.module.export_notes()
    meanings = notes.pop("outputs", {})
    outputs = {
        name: {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [count, *value.shape[1:]],
            "meaning": meanings.get(name, ""),
        }
        for name, value in network(example).items()
    }
    return {
        "schema": 1,
        "task": trained.task,
        "class_names": list(trained.class_names),
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "shape": [count, 3, size, size],
            "colour": "RGB",
            "image_size": size,
            "resize": trained.resize,
            "interpolation": "bilinear, antialiased when shrinking",
            "padding_colour": list(PADDING_COLOUR),
            "scale": "(pixel / 255 - mean) / std",
            "mean": list(MEAN),
            "std": list(STD),
        },
        "outputs": outputs,
        **notes,
        "info": {k: v for k, v in trained.info.items() if k not in ("class_names", "image_size")},
        "versions": environment(),
        "config": _without_paths(trained.config),
    }


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    kept = deepcopy(config)
    for *parents, last in PATHS:
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    if isinstance(kept.get("model", {}).get("pretrained"), str):
        kept["model"]["pretrained"] = True
    return kept

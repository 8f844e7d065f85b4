"""Downloads the weights of a backbone as training would, and trains nothing."""

from __future__ import annotations

from hydra.utils import get_class

from phasewise.errors import UserError
from phasewise.networks.weights import Download


def fetch_weights(target: str, backbone: str, image_size: int, folder: str | None) -> str:
    """Have the weights of a backbone on this machine.

    Args:
        target: the task's LightningModule.
        backbone: as in ``model.backbone``.
        image_size: side of the images in pixels.
        folder: where they go; ``None`` for the caches of torch and Hugging Face.

    Returns:
        A line for people.

    Raises:
        UserError: they cannot be had, or a file that is there does not fit.
    """
    kind = get_class(target)
    if not hasattr(kind, "fetch_weights"):
        raise UserError(f"study.fetch=true: {target} has no fetch_weights, so nobody knows how")
    if folder is None:
        kind.fetch_weights(backbone, image_size, True)
        return f"{backbone}: in the caches of torch and Hugging Face (TORCH_HOME, HF_HOME)"
    place = Download(folder)
    kind.fetch_weights(backbone, image_size, place)
    ((file, is_new),) = place.brought.values()
    return f"{backbone}: {file}{'' if is_new else ' was there'}"

"""Parts of somebody's own, which a mapping with ``_target_`` brings in the place of a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from phasewise.errors import UserError


def returned(
    value: Any, shape: Sequence[int], meaning: str, *, by: nn.Module, where: str
) -> Tensor:
    """What a part of somebody's own has returned, which may be anything.

    Args:
        value: what it returned.
        shape: that it must have.
        meaning: of the shape, e.g. ``logits (B, C, S, S)``, for the message.
        by: the part.
        where: its key, for the message.

    Raises:
        UserError: it is no tensor of that shape.
    """
    if isinstance(value, Tensor) and tuple(value.shape) == tuple(shape):
        return value
    found = type(value).__name__
    if isinstance(value, Tensor):
        found = f"tensor of the shape {tuple(value.shape)}"
    wanted = f"{meaning}, here {tuple(shape)}" if shape else meaning
    raise UserError(f"{where}: {type(by).__name__} returned a {found}; wanted is {wanted}")


class OwnLoss(nn.Module):
    """A loss that somebody brought: one term, which counts as it is.

    Args:
        loss: called with what a subclass's ``forward`` gives it; returns a scalar.
    """

    names = ("own",)

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def term(self, *args: Tensor) -> dict[str, Tensor]:
        """The one term.

        Raises:
            UserError: it is no scalar.
        """
        value = self.loss(*args)
        return {"own": returned(value, (), "a scalar", by=self.loss, where="loss.name")}

    def weights(self, epoch: int | None = None) -> dict[str, float]:
        """The one term counts as it is."""
        return {"own": 1.0}

"""Which networks have a mean that is a network: the same function, start, data and objective."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from phasewise.config.help import flatten
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.inference.evaluation.ensemble import check_alike
from phasewise.inference.restore import Restored
from phasewise.text import format_value

OF_THE_START = "model.pretrained"
"""The key of a model that says where first weights came from, and nothing of what it computes."""

INSTEAD = "ensemble=true averages what networks of any kind predict"


def check_members(members: Sequence[Restored]) -> None:
    """Refuse networks whose average is none, or which nothing can choose between.

    Raises:
        UserError: they see other images, compute something else, have other classes, objectives or
            starts; or one has trained on the images that are to choose.
    """
    check_alike(members, "a soup")
    first = members[0]
    for member in members:
        if member.config["data"].get("refit"):
            raise UserError(
                f"soup: {member.checkpoint} was trained with data.refit=true, also on the "
                "validation images that are to choose"
            )
    for other in members[1:]:
        for what, here, there in (
            ("the list of classes", _classes(first), _classes(other)),
            ("the objective", _objective(first), _objective(other)),
        ):
            if here != there:
                raise _differ(what, first, other, here, there)
        _check_network(first, other)
        _check_start(first, other)


def check_data(members: Sequence[Restored], data: StoreDataModule) -> None:
    """Refuse data that are not those of all runs: what one has trained on would choose for it.

    Args:
        members: of the soup.
        data: whose validation split is to choose.

    Raises:
        UserError: a run's record knows other training or validation images.
    """
    hashes = data.identity().hashes
    for member in members:
        known = {} if member.record is None else member.record.data.get("hashes", {})
        for split, what in (("train", "training"), ("val", "validation")):
            if known and known.get(split) != hashes.get(split):
                raise UserError(
                    f"soup: {member.checkpoint} has other {what} images than these, by which the "
                    f"soup would be chosen; {INSTEAD}"
                )


def _differ(what: str, one: Restored, other: Restored, here: str, there: str) -> UserError:
    return UserError(
        f"soup: {what} of {one.checkpoint} is {here}, that of {other.checkpoint} {there}: their "
        f"weights have no common mean; {INSTEAD}"
    )


def _classes(member: Restored) -> str:
    return ", ".join(member.class_names)


def _objective(member: Restored) -> str:
    objective = member.config["objective"]
    return f"{objective['metric']} ({objective['mode']})"


def _check_network(first: Restored, other: Restored) -> None:
    """With the same weights, both must compute the same; how they were trained may differ."""
    if _shapes(first) == _shapes(other):
        exchanged = replace(other, state=first.state).rebuilt(other.config)
        side = first.image_size
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                torch.testing.assert_close(exchanged(images), first.module(images), equal_nan=True)
            return
        except AssertionError:
            pass
    own, theirs = (flatten({"model": it.config.get("model", {})}) for it in (first, other))
    differing = [
        key for key in own | theirs if key != OF_THE_START and own.get(key) != theirs.get(key)
    ]
    here, there = (
        " ".join(f"{key}={format_value(values.get(key))}" for key in differing) or "other layers"
        for values in (own, theirs)
    )
    raise _differ("the network", first, other, here, there)


def _shapes(member: Restored) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in member.state.items()}


def _check_start(first: Restored, other: Restored) -> None:
    """The same weights to start from; where all were random, the same seed."""
    here, there = _start(first), _start(other)
    if here != there:
        raise _differ("the start", first, other, here, there)


def _start(member: Restored) -> str:
    """Whatever was pretrained, ``init_from`` replaces all of it."""
    given = {
        "init_from": member.config["init_from"],
        "model.pretrained": member.config.get("model", {}).get("pretrained"),
    }
    brought = [f"{key}={_place(value)}" for key, value in given.items() if value]
    return brought[0] if brought else f"random weights of seed={member.config['seed']}"


def _place(value: Any) -> str:
    """A path is compared by where it leads, unopened: a stranger's checkpoint may name any."""
    return os.path.abspath(Path(value).expanduser()) if isinstance(value, str) else str(value)

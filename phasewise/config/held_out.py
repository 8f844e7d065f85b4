"""What data sets that are split here say of their validation; see `phasewise.data.held_out`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from phasewise.config.fields import GroupBy, Seed, Whole, message, wrong
from phasewise.config.schema import DataConfig
from phasewise.errors import Problem
from phasewise.text import format_value


def holdout(value: Any) -> Any:
    """``data.holdout``: names, or a share."""
    if value is None or (isinstance(value, float) and 0 < value < 1):
        return value
    names = isinstance(value, list) and all(type(it) in (str, int) for it in value)
    if names and value:
        return value
    raise wrong("must be a list of names, e.g. [c002], a share in (0, 1), or null")


Folds = Annotated[int | None, Field(ge=2), message("must be a whole number >= 2 or null")]


class FoldsConfig(DataConfig):
    """Keys of data that can be dealt into folds."""

    split_seed: Seed
    holdout: Annotated[Any, BeforeValidator(holdout)]
    folds: Folds
    fold: Whole

    def conflicts(self) -> Iterator[Problem]:
        """Also: folds that are none."""
        yield from super().conflicts()
        if self.folds is None and self.fold:
            reason = "needs data.folds, into how many parts the samples are dealt"
            yield Problem(f"data.fold={self.fold}", reason)
        elif self.folds is not None and self.fold >= self.folds:
            reason = f"must be below data.folds={self.folds}: folds count from 0"
            yield Problem(f"data.fold={self.fold}", reason)
        if self.folds is not None and self.holdout is not None:
            reason = f"does nothing with data.folds={self.folds}, of which data.fold validates"
            yield Problem(f"data.holdout={format_value(self.holdout)}", reason)


class SplitConfig(FoldsConfig):
    """Of data whose samples are split by their names."""

    group_by: GroupBy
    validation: Literal["auto", "groups"]

    def conflicts(self) -> Iterator[Problem]:
        """Also: groups held out that are none."""
        yield from super().conflicts()
        if self.validation == "groups" and self.group_by == "none":
            yield Problem("data.validation=groups", "needs data.group_by, which tells groups")
        if self.validation == "auto" and self.holdout is not None:
            key = f"data.holdout={format_value(self.holdout)}"
            yield Problem(key, "needs data.validation=groups: it says which of them")

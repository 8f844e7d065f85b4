"""What a run asks of its module and its data, where they may be anybody's."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from phasewise.config.identity import DataIdentity
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.listed import DataSummary

UNKNOWN = "data     of %s, which has no identity(): whether another run saw the same cannot be told"


def network(module: L.LightningModule) -> nn.Module:
    """What is compiled, and what other runs can start from: the whole of a foreign module that has
    no ``network``."""
    found = getattr(module, "network", None)
    return found if isinstance(found, nn.Module) else module


def describe_data(data: L.LightningDataModule) -> dict[str, Any]:
    """What a module must know of the data, see `StoreDataModule.describe`; nothing of foreign data
    without that method."""
    found = getattr(data, "describe", None)
    return dict(found()) if callable(found) else {}


def identity_of(data: L.LightningDataModule) -> DataIdentity | None:
    """Which samples there are; None where foreign data do not say it."""
    found = getattr(data, "identity", None)
    known = found() if callable(found) else None
    return known if isinstance(known, DataIdentity) else None


def data_summary(data: L.LightningDataModule) -> DataSummary | None:
    """What a record says of the data; None where nobody knows, or they are not read yet."""
    if isinstance(data, StoreDataModule):
        return data.summary() if data.is_read else None
    found = identity_of(data)
    if found is None:
        return None
    return DataSummary(dict(found.counts), found.hash, found, [], [])


def has_test(data: L.LightningDataModule) -> bool:
    """Whether there is a test split with a sample in it."""
    if isinstance(data, StoreDataModule):
        return data.has_test()
    return is_overridden("test_dataloader", data, L.LightningDataModule)

"""What a run says of its data."""

from __future__ import annotations

import logging

import lightning as L
import pytest

from phasewise.config.identity import DataIdentity
from phasewise.data.listed import DataSummary
from phasewise.errors import Problem
from phasewise.training.console import log_data


def test_what_is_odd_in_the_same_way_is_one_note(caplog: pytest.LogCaptureFixture) -> None:
    twice = [Problem(f"{i}.jpg", "is in train and val") for i in range(12)]
    odd = [Problem(f"folder {i}", f"oddity {i}") for i in range(6)]
    found = DataSummary({"train": 3}, "", DataIdentity({}, {}), warnings=[*twice, *odd])
    with caplog.at_level(logging.INFO):
        log_data(found, L.LightningDataModule(), {"_target_": "multitask.data.ShapesData"})
    first, *notes, rest = [record.getMessage().strip() for record in caplog.records]
    assert first == "data     3 train"
    assert notes == [
        "note: 12 times: is in train and val (0.jpg, 1.jpg, 2.jpg and 9 more)",
        *(f"note: folder {i}: oddity {i}" for i in range(4)),
    ]
    assert rest == "and 2 more notes in record.json"

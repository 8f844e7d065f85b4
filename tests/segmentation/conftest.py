"""Tiny runs of the segmentation pipeline."""

from __future__ import annotations

import pytest

TINY_BEADS = (
    "task=segmentation",
    "data.image_size=32",
    "data.beads=3",
    "data.train_images=8",
    "data.val_images=4",
    "data.test_images=4",
    "data.batch_size=4",
    "data.augment=[]",
    "trainer.max_epochs=1",
    "figures.images=0",
    "model.width=4",
    "model.depth=2",
)


@pytest.fixture(scope="session")
def tiny_beads() -> tuple[str, ...]:
    """Overrides of a run that takes a second."""
    return TINY_BEADS

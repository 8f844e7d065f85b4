"""Tiny runs of the localization pipeline."""

from __future__ import annotations

TINY_ANIMALS = (
    "task=localization",
    "data.image_size=32",
    "data.train_images=8",
    "data.val_images=4",
    "data.test_images=4",
    "data.batch_size=4",
    "data.augment=[]",
    "model.backbone=test_resnet",
    "trainer.max_epochs=1",
    "figures.images=0",
)

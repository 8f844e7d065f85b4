"""Tiny runs of the re-identification pipeline."""

from __future__ import annotations

TINY_REID = (
    "task=reid",
    "data.image_size=32",
    "data.train_identities=10",
    "data.test_identities=4",
    "data.cameras=3",
    "data.shots=2",
    "data.batch_size=8",
    "data.images_per_identity=2",
    "data.augment=[]",
    "data.validation_fraction=0.4",
    "model.backbone=test_resnet",
    "trainer.max_epochs=1",
    "figures.images=0",
)

"""Augmentation on the device, per sample and vectorised over the batch.

``pipeline`` is the transform that runs it; `phasewise.config.augment` has the table of what exists.
"""

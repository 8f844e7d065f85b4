"""Augmentation on the device, per sample and vectorised over the batch.

``names`` holds the table of what exists (no torch), ``pipeline`` the transform that runs it.
"""

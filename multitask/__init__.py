"""Semantic segmentation and object detection on one backbone."""

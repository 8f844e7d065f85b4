"""Localization: one box per image."""

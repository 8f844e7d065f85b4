"""Drawings of a report; only the values that they show come in."""

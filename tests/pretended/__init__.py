"""A GPU that is none: see `tests.pretended.device`."""

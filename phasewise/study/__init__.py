"""Sweeps and studies: they know run records and configs, never a task, a network or Lightning."""

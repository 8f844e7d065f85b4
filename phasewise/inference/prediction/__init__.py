"""Predictions of trained networks on anybody's images; the tasks say what a prediction is."""

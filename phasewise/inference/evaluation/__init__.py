"""What ``evaluate.py`` does: the figures of a trained network, and how sure they are."""

"""What ``evaluate.py`` does: the metrics of a trained network, and how sure they are."""

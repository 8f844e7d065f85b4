"""What ``export.py`` does: a trained network as a file that runs without this project."""

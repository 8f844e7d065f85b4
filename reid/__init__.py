"""Re-identification: the same vehicle seen again by another camera."""

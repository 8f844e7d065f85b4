"""What a configuration may hold. Nothing here imports torch."""

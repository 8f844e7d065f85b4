"""What a run leaves behind, the public contract: its record, its epochs, its lock, its files."""

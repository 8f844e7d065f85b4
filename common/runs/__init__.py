"""One run: its directory, its record, its training, and the way back from it to a network."""

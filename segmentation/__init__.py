"""Binary segmentation of microbeads and alike."""

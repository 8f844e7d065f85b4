"""Backbones by name, and changes to finished networks."""

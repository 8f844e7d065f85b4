"""A package outside of the project."""

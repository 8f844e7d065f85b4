"""What the tasks share. Importing this package imports nothing heavy."""

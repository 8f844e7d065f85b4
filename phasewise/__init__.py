"""Sequential hyper-parameter tuning that can be trusted. Importing this imports nothing heavy."""

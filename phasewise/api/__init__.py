"""The engine from Python: what a study left as tables, and studies of a function. No torch."""

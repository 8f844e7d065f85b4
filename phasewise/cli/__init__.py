"""The command line of the scripts. Nothing here imports torch."""

"""From a run back to its network: restore, predict, evaluate, export."""

"""The parts of a report, each made from a study's results."""

"""From the records of a study to statistics and the audit."""

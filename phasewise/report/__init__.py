"""Reports: what the directories of a study tell, as pages, tables and figures."""

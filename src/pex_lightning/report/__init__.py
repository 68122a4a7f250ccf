"""The report: one page about a run, a study or several runs."""

"""Studies: many runs of variants, tasks and seeds, and what they say together."""

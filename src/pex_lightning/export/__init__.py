"""Export of a run's replay buffer as a dataset."""

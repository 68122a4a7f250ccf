"""What a run collected, as a dataset that others can use."""

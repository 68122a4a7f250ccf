"""Looking at a dataset: statistics of what is in it, and a picture where it is from a maze."""

"""Statistics of datasets, and pictures of maze datasets."""

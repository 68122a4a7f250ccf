"""Datasets, environments stepped while training, and the chunks made of both."""

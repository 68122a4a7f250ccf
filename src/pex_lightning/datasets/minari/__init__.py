"""Minari's datasets, read without importing the code that they name."""

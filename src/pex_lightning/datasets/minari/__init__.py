"""Minari's datasets: read without importing what they name, and written."""

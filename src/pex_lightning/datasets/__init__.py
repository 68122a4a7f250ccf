"""Readers that turn files and arrays into transitions."""

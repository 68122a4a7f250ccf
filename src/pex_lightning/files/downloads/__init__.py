"""Resumable, verified downloads of a file from several possible addresses."""

"""Policies that act: sets of members, and how to choose between them."""

"""Ahead-of-time compilation of functions of tensors, in a separate process."""

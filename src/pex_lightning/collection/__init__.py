"""Frames of a policy in an environment, from this process or from others."""

"""Evaluation, metrics, checkpoints, interrupts and progress during training."""

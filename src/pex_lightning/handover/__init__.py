"""Checkpoints: read safely, checked field by field, handed from the offline to the online stage."""

from pex_lightning.handover.checkpoint import Checkpoint, CheckpointHeader, read_checkpoint
from pex_lightning.handover.checks import check_hand_over, check_resume, check_same_data

__all__ = [
    "Checkpoint",
    "CheckpointHeader",
    "check_hand_over",
    "check_resume",
    "check_same_data",
    "read_checkpoint",
]

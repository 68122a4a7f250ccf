"""D4RL's tasks: their files, checksums and reference scores."""

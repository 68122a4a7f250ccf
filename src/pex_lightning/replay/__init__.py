"""Replay buffers, the mix of offline and online rows, and the store beside a checkpoint."""

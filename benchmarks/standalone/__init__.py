"""Scripts that use no other benchmark: `reading.py` measures what opening a dataset costs."""

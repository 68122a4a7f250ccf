"""Functions of tensors, compiled ahead of time in a process of their own."""

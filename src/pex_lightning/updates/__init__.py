"""Execution of gradient steps, by PyTorch operation by operation or as one compiled function."""

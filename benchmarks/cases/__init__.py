"""What is measured, one case a file; the tables of `speed/` and `scaling/` name its functions.

Most functions return a `Work`, which the measured process repeats. Those of training loops get
the gate instead, and run until it has no more turns. Only the case of another library imports
that library. What several cases need is in `cases/shared/`.
"""

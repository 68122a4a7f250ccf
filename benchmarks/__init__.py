"""What measures this package: a folder for each benchmark, and one for what they measure.

- `speed/`: how fast the package is beside other libraries (`nox -s bench`). Its stopwatch,
  which lets processes take turns, is used by `scaling/` too.
- `scaling/`: how speed changes with sizes and with the number of processes
  (`nox -s scaling`).
- `cases/`: what both of them measure, one case a file.
- `standalone/`: scripts that use none of the others.

Run modules from the root of the repository, for example `python -m benchmarks.speed.run`.
Imports go one way: `scaling` imports `speed`, and `speed` imports `cases.shared`. The
cases are named in tables, and each is imported only by the process that measures it.
"""

"""How fast this package is beside other libraries: `python -m benchmarks.speed.run`.

- `run.py` is the command; `report.py`, `picture.py` and `targets.py` make its results.
- `case_table.py` lists what is measured; `case.py` has the words that it is written in.
- `stopwatch.py` starts the measured processes and gives them their turns; `process.py` says
  how they are started, `serve.py` is what they run, `gate.py` counts and times inside them.
- `measurements.py` turns the blocks of the stopwatch into speeds and ratios.
- `run_costs.py` measures what a run costs once, by the callback in `first_update.py`.
- `profile_update.py` is a command of its own: where the time of a compiled update goes.
"""

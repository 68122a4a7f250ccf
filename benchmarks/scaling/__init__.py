"""How speed changes with size and number: `python -m benchmarks.scaling.run`.

`run.py` is the command, `panels.py` lists what varies, `picture.py` draws it. Processes are
started and timed by the modules of `benchmarks/speed/`.
"""

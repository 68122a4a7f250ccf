"""What several cases need, written once.

- `setting.py`: sizes, numbers and data that all libraries share, and what a case returns.
- `builders.py`: this package's objects, built for a measurement.
- `fit.py`: the command `pex-lightning fit` as it is measured.
- `gate_callback.py`: the callback that holds `fit` back between its turns.
- `made_up_dataset.py`: the dataset of noise that `fit` reads.

A change of the package's Python interface should need a change in `builders.py` only, and one
of its command line a change in `fit.py` (and of the arguments in the two tables of cases).
"""

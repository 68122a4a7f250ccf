"""Linear schedules in gradient steps."""


def progress(step: int, steps: int) -> float:
    """How far a schedule has come after `step` of its `steps` gradient steps, between 0 and 1.

    A schedule of 0 steps is at its end from the start.
    """
    return 1.0 if step >= steps else step / steps

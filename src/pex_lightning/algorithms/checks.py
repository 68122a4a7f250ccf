"""Checks of hyper-parameters."""

from pex_lightning.errors import UserError


def check_range(name: str, value: object, fits: bool, expected: str) -> None:
    """Refuse a hyper-parameter outside of its range.

    Args:
        name: The constructor's argument.
        value: What was given.
        fits: Whether it is within its range.
        expected: The range in words.

    Raises:
        UserError: It does not fit; names the flag, the value and the range.
    """
    if not fits:
        raise UserError(f"--model.{name} is {value}; it must be {expected}.")

"""The one exception that users are meant to read, and what messages are made with."""


class UserError(Exception):
    """Something a user typed, or a file they gave, is wrong.

    The message names the flag or the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with code 2.
    """


def check_range(flag: str, value: object, fits: bool, expected: str) -> None:
    """Refuse a value outside of its range.

    Args:
        flag: The flag that gives it, such as `--model.tau`.
        value: What was given.
        fits: Whether it is within its range.
        expected: The range in words.

    Raises:
        UserError: It does not fit; names the flag, the value and the range.
    """
    if not fits:
        raise UserError(f"{flag} is {shortened(str(value))}; it must be {expected}.")


def in_one_line(error: BaseException) -> str:
    """An exception's type and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def shortened(text: str, length: int = 200) -> str:
    """Cut a text of unbounded length for a message."""
    return text if len(text) <= length else f"{text[:length]} …"


def printable(text: str) -> str:
    """A text of a file for a message: without what steers a terminal or cannot be encoded."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)

"""The one exception that users are meant to read, and others in a line."""


class UserError(Exception):
    """Something a user typed, or a file they gave, is wrong.

    The message names the flag or the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with code 2.
    """


def in_one_line(error: BaseException) -> str:
    """An exception's type and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"

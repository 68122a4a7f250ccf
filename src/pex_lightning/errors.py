"""The one exception that users are meant to read."""


class UserError(Exception):
    """Something a user typed, or a file they gave, is wrong.

    The message names the flag or the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with code 2.
    """

"""The command line, and a run that takes seconds."""

from commands import cache, command, finished, refused, tiny, wait_for

__all__ = ["cache", "command", "finished", "refused", "tiny", "wait_for"]

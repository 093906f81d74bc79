"""The one way in which a verb of `ace` fails."""

from __future__ import annotations


class Failure(Exception):
    """Ends the command with a message on standard error and this exit status."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status

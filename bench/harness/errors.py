class Trouble(Exception):
    """Something that the user can put right; the text says what is wrong and what to do."""


class Failed(Exception):
    """The run does not count; the text says why."""


class Skipped(Exception):
    """The program cannot be run on this peer, and it is not worth while to try again."""

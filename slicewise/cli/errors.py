"""Why a command ends early; apart from what it reads with, so that complaining imports nothing else."""


class Failed(Exception):  # noqa: N818  it is told to a person, not handled
    """The command cannot go on; the message is one line for standard error."""

"""The one kind of failure that this package reports in a sentence of its own."""


class ClusterError(RuntimeError):
    """Something that a test run needs could not be had; the message says what, and what to do."""

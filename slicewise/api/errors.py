"""What somebody wrote and cannot be used."""


class BadInput(ValueError):  # noqa: N818  it is the caller's mistake, and named for it
    """Text that cannot be used: one line with file, document, field, what is wrong and what would be right."""

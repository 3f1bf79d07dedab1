"""The `slicewise` command: one command with one engine under it, the functions of the webhook and the controller.

It stands on top of everything (docs/architecture.md, "Layers"); `python -m slicewise` and `kubectl slicewise`
are the same command.
"""

from slicewise.cli.main import main

__all__ = ["main"]

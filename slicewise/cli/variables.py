"""Flags that are environment variables too: the flag wins, and an empty variable is none."""

import os
from argparse import Action, ArgumentTypeError
from collections.abc import Callable
from typing import Any, Protocol


class _Arguments(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, *names: str, **more: Any) -> Action: ...


def variable_argument(
    parser: _Arguments,
    name: str,
    default: str | None,
    help_text: str,
    read: Callable[[str], Any] = str,
    **more: Any,
) -> None:
    """Adds a flag that is an environment variable too.

    Args:
        parser: gets the flag.
        name: of the flag, `--like-this`; the variable is SLICEWISE_LIKE_THIS.
        default: where neither says anything; None and "" are not shown in the help.
        help_text: what it is for.
        read: what makes a value of a text; what it raises names the variable where that holds the text.
        more: as `add_argument` takes it.
    """
    shown = f" (default {default})" if default else ""

    def value(text: str) -> Any:
        try:
            return read(text)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{said_by(name, text)}{error}") from None

    standing = os.environ.get(_variable(name)) or default
    help_text = f"{help_text}{shown} [${_variable(name)}]"
    parser.add_argument(name, type=value, default=standing, help=help_text, **more)


def said_by(name: str, text: str) -> str:
    """Returns the beginning of a complaint of a flag's text: its variable where that holds it, "" else."""
    return f"${_variable(name)}: " if text and text == os.environ.get(_variable(name)) else ""


def _variable(name: str) -> str:
    return "SLICEWISE_" + name.removeprefix("--").replace("-", "_").upper()

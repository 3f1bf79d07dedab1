"""Reads the command line and calls one command.

Exit status: 0 done, 1 differences found or workload refused, 2 bad input (one line on standard error), 3 something
may not be read (doctor).
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, Final, NoReturn

from slicewise import __version__
from slicewise.api.errors import BadInput, did_you_mean
from slicewise.cli.commands import COMMANDS, Command
from slicewise.cli.errors import Failed

_NOTHING_TYPED: Final = 2
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _Parser(argparse.ArgumentParser):
    """Complains in one line, like every other complaint."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong with the command line and exits with 2."""
        see = " See" if message.endswith("?") else "; see"
        self.exit(_NOTHING_TYPED, f"{self.prog}: {message}{see} {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Names what a flag may be set to, and which of it was meant; argparse has no public way to word this."""
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            raise argparse.ArgumentError(
                action, f"{value!r} is none of {', '.join(known)}{did_you_mean(value, known)}"
            )


def parser(*names: str, known: Sequence[Command] = COMMANDS) -> argparse.ArgumentParser:
    """Returns the parser of the commands that are `known`; imports those of these names, or all where none is named."""
    top = _Parser(
        prog="kubectl slicewise" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "slicewise",  # noqa: PTH119
        description="People ask for a GPU; Slicewise decides which slice, and keeps queues honest about them.",
        epilog="Exit status: 0 done, 1 differences found or workload refused, 2 bad input, "
        "3 something may not be read (doctor).",
    )
    top.add_argument("--version", action="version", version=f"slicewise {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in known:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if not names or command.name in names:
            arguments, run = command.load()
            arguments(sub)
            sub.set_defaults(run=run)
    return top


def _refuse(word: str, name: str | None, top: argparse.ArgumentParser) -> NoReturn:
    """Says that a word of the command line means nothing here, and what was meant, and exits with 2."""
    from slicewise.cli.completion import flags  # noqa: PLC0415  only the misspelt need it

    one = _Parser(prog=f"{top.prog} {name}" if name else top.prog)
    for command in COMMANDS:
        if command.name == name:
            command.load()[0](one)
    near = did_you_mean(word.partition("=")[0], (each for flag in flags(one) for each in flag.names))
    if word.startswith("-"):
        one.error(f"there is no option {word}{near}")
    one.error(f"there is no place for {word}{near}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    if sys.stdout is None:  # whoever calls has closed it, and reads nothing
        with os.fdopen(os.open(os.devnull, os.O_WRONLY), "w") as nowhere, redirect_stdout(nowhere):
            return main(argv)
    words = sys.argv[1:] if argv is None else argv
    # No option of the top parser takes a value, so the first plain word is the command.
    name = next((word for word in words if not word.startswith("-")), "-")
    known = [command.name for command in COMMANDS]
    # Where the command comes first nobody asks for a list of the others, and to make their parsers takes half the time.
    alone = [command for command in COMMANDS if [command.name] == list(words[:1])]
    top = parser(name, known=alone or COMMANDS)
    if name not in {*known, "-"}:
        top.error(f"there is no command {name}{did_you_mean(name, known)}")
    options, unknown = top.parse_known_args(words)
    if unknown:
        _refuse(unknown[0], options.command, top)
    if options.command is None:
        top.print_help(sys.stderr)
        return _NOTHING_TYPED
    try:
        status = int(options.run(options))
        sys.stdout.flush()
    except (BadInput, Failed) as error:
        return _failed(options.command, str(error))
    except UnicodeEncodeError as error:
        character = ascii(error.object[error.start])
        return _failed(
            options.command,
            f"standard output: {error.encoding} has no {character}; set PYTHONIOENCODING=utf-8",
        )
    except BrokenPipeError:
        # Whoever read our output has enough of it, as `head` has.
        _drop_output()
        return 0
    except OSError as error:
        if error.errno in _NO_ROOM:
            _drop_output()
            return _failed(options.command, f"cannot write: {error.strerror}; make room, or write elsewhere")
        if error.filename is None:
            raise
        return _failed(options.command, f"{error.filename}: {error.strerror}; name another file")
    except KeyboardInterrupt:
        return 130
    return status


def _failed(command: str, sentence: str) -> int:
    """Says why a command ends early; returns its exit status."""
    from slicewise.cli.output import tell  # noqa: PLC0415  it is seldom needed

    tell(f"slicewise {command}: {sentence}")
    return 2


def _drop_output() -> None:
    """Has what is still to be written to standard output go nowhere, so that nothing complains at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

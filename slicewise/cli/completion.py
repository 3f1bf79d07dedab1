"""`slicewise completion SHELL`: a script with which a shell completes commands, flags and their values.

The scripts are made of the very parsers of the commands, by ``python -m slicewise.cli.completion``, and kept in files.
When you press Tab they call nothing but kubectl, for names that only a kubeconfig or a cluster knows.
"""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

_NAMES: Final = {
    "--context": "kubectl config get-contexts -o name 2>/dev/null",
    "--cluster": "kubectl config get-clusters 2>/dev/null | tail -n +2",
    "--user": "kubectl config get-users 2>/dev/null | tail -n +2",
    "--namespace": "kubectl get namespaces -o name --request-timeout 2s 2>/dev/null | cut -d / -f 2",
}
"""What prints the names that a flag may be set to, by flag."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a command."""

    names: Sequence[str]
    help: str
    values: Sequence[str]
    """What it may be set to, where that is a list."""
    takes_value: bool

    @property
    def names_from(self) -> str:
        """What a shell runs for the names that it may be set to; "" where it runs nothing."""
        return next((_NAMES[name] for name in self.names if name in _NAMES), "")


def flags(parser: ArgumentParser) -> list[Flag]:
    """Returns the flags of a parser; argparse has no public way to list them."""
    actions: list[Action] = parser._actions  # noqa: SLF001
    return [
        Flag(
            each.option_strings,
            " ".join((each.help or "").replace("%%", "%").split()),
            _choices(each),
            each.nargs != 0,
        )
        for each in actions
        if each.option_strings
    ]


def _choices(action: Action) -> tuple[str, ...]:
    """Returns what a flag or a word may be: its choices, or what its metavar lists in lower case, as `true|false`."""
    listed = action.metavar if isinstance(action.metavar, str) else ""
    found = action.choices or (listed.split("|") if "|" in listed and listed.islower() else ())
    return tuple(map(str, found))


def values(parser: ArgumentParser) -> list[str]:
    """Returns what the plain words of a command may be, where that is a list."""
    actions: list[Action] = parser._actions  # noqa: SLF001
    return [value for each in actions if not each.option_strings for value in _choices(each)]


@dataclass(frozen=True, slots=True)
class Completed:
    """One command as a shell completes it."""

    help: str
    flags: Sequence[Flag]
    values: Sequence[str]


def bash(commands: Mapping[str, Completed]) -> Iterator[str]:
    """Yields the lines of a script for bash; where a list of words does not help, bash completes files."""
    yield "_slicewise() {"
    yield "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word words="
    yield '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield "    if [[ $word != -* ]]; then command=$word; break; fi"
    yield "  done"
    yield '  case "$command $prev" in'
    for name, command in commands.items():
        for flag in command.flags:
            if flag.takes_value:
                cases = "|".join(f'"{name} {each}"' for each in flag.names)
                words = f'"$({flag.names_from})"' if flag.names_from else quote(" ".join(flag.values))
                yield f"    {cases}) words={words} ;;"
    yield '    *) case "$command" in'
    yield f'      "") words={quote(" ".join(commands))} ;;'
    for name, command in commands.items():
        plain = quote(" ".join(command.values))
        dashed = quote(" ".join(name for flag in command.flags for name in flag.names))
        yield f"      {name}) if [[ $cur == -* ]]; then words={dashed}; else words={plain}; fi ;;"
    yield "    esac ;;"
    yield "  esac"
    yield '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield "}"
    yield "complete -o default -F _slicewise slicewise"


def zsh(commands: Mapping[str, Completed]) -> Iterator[str]:
    """Yields the lines of a script for zsh, which may also stand in `fpath` as `_slicewise`."""

    def escaped(text: str) -> str:
        return "".join(f"\\{each}" if each in "[]:\\" else each for each in text)

    yield "#compdef slicewise"
    yield "_slicewise() {"
    yield "  if (( CURRENT == 2 )); then"
    yield "    local -a commands=("
    for name, command in commands.items():
        yield f"      {quote(f'{name}:{escaped(command.help)}')}"
    yield "    )"
    yield "    _describe command commands"
    yield "    return"
    yield "  fi"
    yield "  shift words"
    yield "  (( CURRENT-- ))"
    yield "  case $words[1] in"
    for name, command in commands.items():
        specs = [
            f"{each}[{escaped(flag.help)}]"
            + (f":value:{_zsh_values(flag.values, flag.names_from)}" if flag.takes_value else "")
            for flag in command.flags
            for each in flag.names
        ]
        specs.append(f"*:word:{_zsh_values(command.values)}")
        yield f"    {name}) _arguments {' '.join(map(quote, specs))} ;;"
    yield "  esac"
    yield "}"
    yield "compdef _slicewise slicewise"


def _zsh_values(words: Sequence[str], names_from: str = "") -> str:
    if names_from:
        return f"{{compadd -- $({names_from})}}"
    return f"({' '.join(words)})" if words else "_files"


def fish(commands: Mapping[str, Completed]) -> Iterator[str]:
    """Yields the lines of a script for fish."""
    for name, command in commands.items():
        yield f"complete -c slicewise -n __fish_use_subcommand -f -a {name} -d {quote(command.help)}"
        seen = f"complete -c slicewise -n '__fish_seen_subcommand_from {name}'"
        for flag in command.flags:
            options = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in flag.names]
            if flag.names_from:
                options.append(f"-x -a {quote(f'({flag.names_from})')}")
            elif flag.values:
                options.append(f"-x -a {quote(' '.join(flag.values))}")
            elif flag.takes_value:
                options.append("-r")
            yield f"{seen} {' '.join(options)} -d {quote(flag.help)}"
        if command.values:
            yield f"{seen} -f -a {quote(' '.join(command.values))}"


SHELLS: Final = {"bash": bash, "zsh": zsh, "fish": fish}


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `completion`."""
    parser.add_argument(
        "shell", choices=tuple(SHELLS), metavar="|".join(SHELLS), help="the shell that you use"
    )


def scripts() -> dict[Path, str]:
    """Returns the text of each shell's script, by the file that has it, made of the parsers of all commands."""
    from slicewise.cli.commands import COMMANDS  # noqa: PLC0415  the table names this module

    known: dict[str, Completed] = {}
    for command in COMMANDS:
        parser = ArgumentParser()
        command.load()[0](parser)
        known[command.name] = Completed(command.help, flags(parser), values(parser))
    return {_file(shell): "\n".join(lines(known)) + "\n" for shell, lines in SHELLS.items()}


def _file(shell: str) -> Path:
    return Path(__file__).with_name("completions") / f"slicewise.{shell}"


def run(options: Namespace) -> int:
    """Prints the script of a file: a shell asks for it at every start, and loading all commands takes long."""
    print(_file(options.shell).read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    for path, text in scripts().items():
        path.write_text(text, encoding="utf-8")

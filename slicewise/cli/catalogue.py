"""The commands, in the order in which people meet them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, NamedTuple

from slicewise.cli import mutate, pools, servers


class Command(NamedTuple):
    """One command: its name, a line of help, its arguments and what it does."""

    name: str
    help: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


COMMANDS: Final = (
    Command("mutate", "Print manifests as the webhook would leave them.", mutate.arguments, mutate.run),
    Command("explain", "Say why, in words a person can act on.", mutate.explain_arguments, mutate.explain),
    Command(
        "pools",
        "List the pools, what each advertises, and what is not believed yet.",
        pools.arguments,
        pools.run,
    ),
    Command("webhook", "Serve the admission webhook.", servers.webhook_arguments, servers.webhook),
    Command("controller", "Run the quota controller.", servers.controller_arguments, servers.controller),
)

"""The commands, in the order in which people meet them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, NamedTuple

from slicewise.cli import demo, doctor, mutate, plans, policy_tests, pools, servers, snapshot


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
    Command("plan", "Print every object that the controller wants.", plans.plan_arguments, plans.plan),
    Command(
        "diff", "Print wanted against what stands; exit 1 when they differ.", plans.diff_arguments, plans.diff
    ),
    Command(
        "drift", "Print what slipped through; exit 1 when there is any.", plans.drift_arguments, plans.drift
    ),
    Command("doctor", "Say what is wrong or risky, and how to mend it.", doctor.arguments, doctor.run),
    Command("test", "Run policy tests.", policy_tests.arguments, policy_tests.run),
    Command(
        "snapshot", "Write a file of a live cluster that may be shown.", snapshot.arguments, snapshot.run
    ),
    Command("demo", "Play the whole loop on a recorded cluster.", demo.arguments, demo.run),
    Command("webhook", "Serve the admission webhook.", servers.webhook_arguments, servers.webhook),
    Command("controller", "Run the quota controller.", servers.controller_arguments, servers.controller),
)

"""The commands, in the order in which people meet them; each is imported when it is called."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple


class Command(NamedTuple):
    """One command: its name, a line of help, and where its arguments and its function are."""

    name: str
    help: str
    module: str
    """The module in `slicewise.cli`."""
    run: str = "run"
    """The function that does it: `(options) -> exit status`."""
    arguments: str = "arguments"
    """The function that adds its arguments to a parser."""

    def load(self) -> tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int]]:
        """Imports the command; returns what adds its arguments and what runs it."""
        module: Any = import_module(f"slicewise.cli.{self.module}")
        return getattr(module, self.arguments), getattr(module, self.run)


COMMANDS: Final = (
    Command("mutate", "Print manifests as the webhook would leave them.", "mutate"),
    Command("explain", "Say why, in words a person can act on.", "mutate", "explain", "explain_arguments"),
    Command("pools", "List the pools, what each advertises, and what is not believed yet.", "pools"),
    Command("plan", "Print every object that the controller wants.", "plans", "plan", "plan_arguments"),
    Command(
        "diff",
        "Print wanted against what stands; exit 1 when they differ.",
        "plans",
        "diff",
        "diff_arguments",
    ),
    Command(
        "drift", "Print what slipped through; exit 1 when there is any.", "plans", "drift", "drift_arguments"
    ),
    Command("why", "Say why a workload waits, or show the arithmetic of a queue's numbers.", "why"),
    Command("release", "Give back the quotas of a plan that is gone, in the safe order.", "release"),
    Command("uninstall", "Say what an uninstall would leave behind (--check).", "uninstall"),
    Command(
        "overlays", "Print Karpenter NodeOverlays for autoscaled pools of slices and shares.", "overlays"
    ),
    Command(
        "deviceclasses", "Print DeviceClasses for the slices that a DRA driver publishes.", "deviceclasses"
    ),
    Command("page", "Show all of this in a browser, live.", "page"),
    Command("doctor", "Say what is wrong or risky, and how to mend it.", "doctor"),
    Command("test", "Run policy tests.", "policy_tests"),
    Command(
        "report",
        "Say what GPUs were used for, and what stood idle.",
        "usage",
        "run_report",
        "report_arguments",
    ),
    Command(
        "advise",
        "Say which smallest size each workload would have done with.",
        "usage",
        "run_advise",
        "advise_arguments",
    ),
    Command("snapshot", "Write a file of a live cluster that may be shown.", "snapshot"),
    Command("demo", "Play the whole loop on a recorded cluster.", "demo"),
    Command(
        "completion", "Print a script with which bash, zsh or fish completes this command.", "completion"
    ),
    Command("webhook", "Serve the admission webhook.", "servers", "webhook", "webhook_arguments"),
    Command("controller", "Run the quota controller.", "servers", "controller", "controller_arguments"),
)

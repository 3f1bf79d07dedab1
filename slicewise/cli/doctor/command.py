"""`slicewise doctor`: the checks in turn, and how their findings are printed."""

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from slicewise.cli.doctor import (
    autoscaling,
    configurations,
    engines,
    installation,
    namespaces,
    nodes,
    policies,
    quotas,
    webhooks,
)
from slicewise.cli.doctor.cluster import Patient, admit
from slicewise.cli.doctor.findings import Finding, Severity, ordered
from slicewise.cli.inputs import cluster_arguments, node_rules, or_a_file
from slicewise.cli.output import Listing, Style, line, output_argument, reference, styled, table
from slicewise.cli.progress import progress
from slicewise.kube.snapshot import read_file

CHECKS: Final[tuple[Callable[[Patient], Iterable[Finding]], ...]] = (
    installation.check,
    webhooks.check,
    engines.check,
    namespaces.check,
    policies.check,
    nodes.check,
    configurations.check,
    quotas.check,
    autoscaling.check,
)


_NOT_READ: Final = 3
_STYLES: Final = {Severity.ERROR: Style.ERROR, Severity.WARNING: Style.WARNING}


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `doctor`."""
    cluster_arguments(parser)
    output_argument(parser)


def findings(patient: Patient) -> list[Finding]:
    """Everything that is wrong or risky, in order of importance."""
    return ordered([*patient.told, *(found for check in CHECKS for found in check(patient))])


def run(options: Namespace) -> int:
    """Prints what is wrong; exits 1 when there is an error or a warning, else 3 when something may not be read."""
    now = datetime.now(UTC)
    with progress("examining the cluster"):
        patient = examined(options, now)
        found, unseen = findings(patient), patient.unseen()
    document = {
        "findings": [each.document() for each in found],
        "unseen": unseen,
        "forbidden": sorted(patient.forbidden),
    }
    names = [reference(each.kind, each.name, each.group) for each in found]
    Listing.of(names, document, partial(_text, found, unseen)).print(options.output)
    if any(each.severity is not Severity.NOTE for each in found):
        return 1
    return _NOT_READ if patient.forbidden else 0


def examined(options: Namespace, now: datetime) -> Patient:
    """Reads the snapshots that the command line names, or the live cluster, as far as they can be used.

    Raises:
        BadInput: a file cannot be used.
        Failed: there is no cluster to read.
    """
    if options.snapshot:
        documents = (d for name in options.snapshot for d in read_file(name, sys.stdin))
        patient = admit(documents, now, rules=node_rules(options))
    else:
        from slicewise.cli.doctor import live  # noqa: PLC0415  the libraries of the network load slowly

        with or_a_file():
            patient = live.examine(options, now)
    patient.snapshot.kueue_namespace = options.kueue_namespace
    return patient


def _text(found: list[Finding], unseen: list[str], wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    lines = []
    if found and wide:
        rows = [(each.severity, each.code, each.object, each.sentence, each.fix) for each in found]
        lines += [table(("SEVERITY", "CODE", "OBJECT", "WHAT", "FIX"), rows), ""]
    for each in () if wide else found:
        severity = f"{each.severity.upper():<8}"
        style = _STYLES.get(each.severity)
        lines.append(f"{styled(severity, style) if style else severity}{each.code}: {line(each.object)}")
        lines += [line(f"        {each.sentence}"), line(f"        -> {each.fix}"), ""]
    counts = Counter(each.severity for each in found)
    numbers = ", ".join(f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in Severity if counts[s])
    lines.append(f"Found {numbers}." if found else "Nothing wrong was found.")
    return "\n".join(
        [*lines, *(["", "Not looked at:", *(line(f"- {each}") for each in unseen)] if unseen else [])]
    )

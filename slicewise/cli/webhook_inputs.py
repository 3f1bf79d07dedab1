"""What commands that judge workloads read besides: the kinds that the webhook knows, and the cluster as it sees it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from admission.decision.cluster_state import ClusterState
from admission.workloads.custom_kinds import KindsError, read_kinds
from admission.workloads.decoder import Templates
from slicewise.api.errors import BadInput
from slicewise.cli.variables import said_by, variable_argument
from slicewise.kube.snapshot import Snapshot


def kinds_argument(parser: ArgumentParser) -> None:
    """Adds the argument that names an admin's own kinds."""
    variable_argument(
        parser,
        "--kinds-file",
        None,
        "kinds of workloads beside the built-in ones (docs/kinds.md)",
        metavar="FILE",
    )


def templates(options: Namespace) -> Templates:
    """Returns the kinds that the webhook knows, with those of `--kinds-file`.

    Raises:
        BadInput: the file breaks the format.
    """
    if not options.kinds_file:
        return Templates()
    named = f"{said_by('--kinds-file', options.kinds_file)}{options.kinds_file}"
    try:
        return Templates(more=read_kinds(Path(options.kinds_file).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{named}: cannot be read: {error}; name a file of kinds") from None
    except KindsError as error:
        raise BadInput(f"{named}: {error}") from None


def world(snapshot: Snapshot) -> ClusterState:
    """Returns what the webhook would know of such a cluster."""
    return ClusterState(snapshot.namespaces, snapshot.policies, snapshot.pools, plans=snapshot.plans)

"""What commands that judge workloads read besides: the kinds that the webhook knows, and the cluster as it sees it."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from admission.decision.cluster_state import ClusterState
from admission.workloads.custom_kinds import KindsError, read_kinds
from admission.workloads.decoder import Templates
from slicewise.api.errors import BadInput
from slicewise.kube.snapshot import Snapshot


def kinds_argument(parser: ArgumentParser) -> None:
    """Adds the argument that names an admin's own kinds."""
    parser.add_argument(
        "--kinds-file",
        default=os.environ.get("SLICEWISE_KINDS_FILE") or None,
        metavar="FILE",
        help="kinds of workloads beside the built-in ones (docs/kinds.md) [$SLICEWISE_KINDS_FILE]",
    )


def templates(options: Namespace) -> Templates:
    """Returns the kinds that the webhook knows, with those of `--kinds-file`.

    Raises:
        BadInput: the file breaks the format.
    """
    if not options.kinds_file:
        return Templates()
    try:
        return Templates(more=read_kinds(Path(options.kinds_file).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{options.kinds_file}: cannot be read: {error}; name a file of kinds") from None
    except KindsError as error:
        raise BadInput(f"{options.kinds_file}: {error}") from None


def world(snapshot: Snapshot) -> ClusterState:
    """Returns what the webhook would know of such a cluster."""
    return ClusterState(snapshot.namespaces, snapshot.policies, snapshot.pools, plans=snapshot.plans)

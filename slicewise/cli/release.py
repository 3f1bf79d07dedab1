"""`slicewise release PLAN`: gives back what a plan gave that is gone, in the safe order."""

from argparse import ArgumentParser, Namespace

from queue_sync.planning.changes import Change, ChangeSet, kind_and_name
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.observed import annotation
from queue_sync.planning.plan_diff import released
from queue_sync.planning.quota_changes import Basis, Causes, quota_changes
from slicewise.api import keys
from slicewise.api.errors import BadInput, did_you_mean
from slicewise.cli.inputs import READ_QUEUES, cluster, cluster_arguments
from slicewise.cli.output import line, tell, write
from slicewise.kube.object_types import ENGINE_OBJECTS
from slicewise.kube.snapshot import Snapshot


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `release`."""
    cluster_arguments(parser)
    parser.add_argument("plan", metavar="PLAN", help="the QuotaPlan that is gone")


def run(options: Namespace) -> int:
    """Gives back, or with --snapshot says what would be; exits 1 while something is left.

    Raises:
        BadInput: the plan stands, or there is no trace of it.
    """
    snapshot = cluster(options, READ_QUEUES)
    if options.plan in snapshot.plans:
        raise BadInput(
            f"QuotaPlan {options.plan} stands, and the controller would give everything again; set its "
            "deletionPolicy: Release and delete it"
        )
    existing = ClusterState.from_snapshot(snapshot).existing
    _require_trace(options.plan, snapshot)
    found = released(options.plan, existing)
    causes = Causes(None, Basis({}))
    for change in found.changes:
        numbers = ", ".join(each.numbers for each in quota_changes(change, causes))
        write(line(f"{change.verb} {' '.join(kind_and_name(change.document))}{numbers and f': {numbers}'}"))
    if not options.snapshot:
        _write(options, found.changes)
    for problem in found.problems:
        tell(f"warning: {problem.sentence}")
    return _remains(options, found)


def _require_trace(plan: str, snapshot: Snapshot) -> None:
    """Refuses a plan that no object names, for whoever misspells it would believe its quotas gone.

    Queues that were given back stay, empty, and go on naming the plan that gave to them.
    """
    written = (each.name for objects in ENGINE_OBJECTS.values() for each in objects.written)
    givers = {
        giver for kind in written for item in snapshot.of(kind) if (giver := annotation(item, keys.PLAN))
    }
    if plan not in givers:
        meant = did_you_mean(plan, {*snapshot.plans, *givers}) or "; name one that `slicewise drift` reports"
        raise BadInput(f"there is no QuotaPlan {plan!r}, and nothing that one gave{meant}")


def _remains(options: Namespace, found: ChangeSet) -> int:
    """Says what is still to do. While something is written, what is empty now may leave next, used or not."""
    if found.changes:
        if not options.snapshot:
            tell("run this again until nothing is printed: what is empty now leaves next")
    elif not found.problems:
        tell(
            "work still uses what is given back; run this again when it has finished"
            if found.draining
            else f"nothing is left of QuotaPlan {options.plan}"
        )
    return int(bool(found.changes or found.draining or found.problems))


def _write(options: Namespace, changes: tuple[Change, ...]) -> None:
    from queue_sync.writer import RefusedError, StaleError, Writer  # noqa: PLC0415  the network loads slowly
    from slicewise.cli.errors import Failed  # noqa: PLC0415
    from slicewise.cli.live import ask  # noqa: PLC0415
    from slicewise.kube.client import Client  # noqa: PLC0415

    async def write(client: Client) -> None:
        writer, tier = Writer(client), 0
        for change in changes:
            if change.tier != tier and tier:
                await writer.wait_for_caches()
            tier = change.tier
            await writer.execute(change)

    try:
        ask(options, write)
    except StaleError as error:
        raise Failed(f"somebody else writes at the same time ({error}); run this again") from None
    except RefusedError as error:
        raise Failed(f"the API server refuses it: {error}") from None

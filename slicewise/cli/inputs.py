"""What commands read: manifests, snapshots, or a live cluster in their place."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from admission.judgement.world import World
from admission.kinds.configured import KindsError, read_kinds
from admission.kinds.templates import Templates
from slicewise.cli.output import tell
from slicewise.inventory.gpu_operator import holds
from slicewise.kube.client import Client
from slicewise.kube.errors import ApiError, ConfigError, ForbiddenError, KubeError, NotFoundError
from slicewise.kube.snapshot import BadInput, Document, Object, Snapshot, collect, read_file

T = TypeVar("T")
Collection = tuple[str, str, str]
"""API path of a collection, apiVersion and kind of its items."""


class Failed(Exception):  # noqa: N818  it is told to a person, not handled
    """The command cannot go on; the message is one line for standard error."""


# What a snapshot of a live cluster holds.
READ_ALWAYS: Final = (
    ("/api/v1/nodes", "v1", "Node"),
    ("/api/v1/namespaces", "v1", "Namespace"),
    ("/apis/slicewise.io/v1alpha1/slicingpolicies", "slicewise.io/v1alpha1", "SlicingPolicy"),
    ("/apis/slicewise.io/v1alpha1/quotaplans", "slicewise.io/v1alpha1", "QuotaPlan"),
)
READ_QUEUES: Final = (
    ("/apis/kueue.x-k8s.io/v1beta2/resourceflavors", "kueue.x-k8s.io/v1beta2", "ResourceFlavor"),
    ("/apis/kueue.x-k8s.io/v1beta2/clusterqueues", "kueue.x-k8s.io/v1beta2", "ClusterQueue"),
    ("/apis/kueue.x-k8s.io/v1beta2/localqueues", "kueue.x-k8s.io/v1beta2", "LocalQueue"),
    ("/apis/kueue.x-k8s.io/v1beta2/workloads", "kueue.x-k8s.io/v1beta2", "Workload"),
    ("/apis/scheduling.volcano.sh/v1beta1/queues", "scheduling.volcano.sh/v1beta1", "Queue"),
    ("/apis/scheduling.volcano.sh/v1beta1/podgroups", "scheduling.volcano.sh/v1beta1", "PodGroup"),
)
READ_WORK: Final = (
    ("/api/v1/pods", "v1", "Pod"),
    ("/api/v1/resourcequotas", "v1", "ResourceQuota"),
    ("/api/v1/limitranges", "v1", "LimitRange"),
)
_HOOKS: Final = "admissionregistration.k8s.io/v1"
READ_SETUP: Final = (
    (f"/apis/{_HOOKS}/mutatingwebhookconfigurations", _HOOKS, "MutatingWebhookConfiguration"),
    (f"/apis/{_HOOKS}/validatingwebhookconfigurations", _HOOKS, "ValidatingWebhookConfiguration"),
    (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
    ),
    ("/apis/apps/v1/deployments", "apps/v1", "Deployment"),
)


def manifest_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that name manifests."""
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="manifests: a file, a directory, or - for standard input; may be repeated",
    )
    parser.add_argument("-n", "--namespace", default="default", help="namespace of objects that name none")


def cluster_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that name a cluster."""
    parser.add_argument(
        "--snapshot",
        action="append",
        metavar="FILE",
        help="objects as `kubectl get -o yaml` prints them, instead of a live cluster; may be repeated",
    )
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="the live cluster; left out: as kubectl finds it"
    )


def operator_argument(parser: ArgumentParser) -> None:
    """Adds the argument that says where a live cluster keeps what is planned for nodes."""
    parser.add_argument(
        "--gpu-operator-namespace",
        default=os.environ.get("SLICEWISE_GPU_OPERATOR_NAMESPACE", "gpu-operator"),
        metavar="NAME",
        help="where a live cluster has the files that plan how nodes are divided; empty: look at none "
        "(default gpu-operator) [$SLICEWISE_GPU_OPERATOR_NAMESPACE]",
    )


def operator_files(options: Namespace) -> tuple[Collection, ...]:
    """Returns the collection in which a live cluster has those files."""
    space = options.gpu_operator_namespace
    return ((f"/api/v1/namespaces/{quote(space)}/configmaps", "v1", "ConfigMap"),) if space else ()


def kinds_argument(parser: ArgumentParser) -> None:
    """Adds the argument that names an admin's own kinds."""
    parser.add_argument(
        "--kinds-file",
        default=os.environ.get("SLICEWISE_KINDS_FILE"),
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


def manifests(options: Namespace) -> list[Document]:
    """Reads the manifests that the command line names.

    Raises:
        BadInput: one of them cannot be used.
    """
    return [document for name in options.filename for document in read_file(name, sys.stdin)]


def cluster(options: Namespace, *collections: Iterable[Collection]) -> Snapshot:
    """Reads the snapshots that the command line names, or the live cluster.

    Raises:
        BadInput: a file cannot be used.
        Failed: the cluster cannot be read.
    """
    if "-" in (options.snapshot or ()) and "-" in getattr(options, "filename", ()):
        raise BadInput(
            "standard input: it is named both by -f and by --snapshot, and can be read once; put one into a file"
        )
    if options.snapshot:
        return collect(document for name in options.snapshot for document in read_file(name, sys.stdin))
    try:
        return collect(live(options.kubeconfig, READ_ALWAYS, *collections))
    except Unreachable as error:
        raise Unreachable(f"{error}, or give --snapshot FILE to read a file instead") from None


def world(snapshot: Snapshot) -> World:
    """Returns what the webhook would know of such a cluster."""
    return World(snapshot.namespaces, snapshot.policies, snapshot.pools, plans=snapshot.plans)


def live(kubeconfig: str | None, *collections: Iterable[Collection]) -> Iterator[Document]:
    """Reads collections of a live cluster; kinds that it does not serve are none."""

    async def read(client: Client) -> list[Object]:
        return [await _list(client, *each) for group in collections for each in group]

    for number, value in enumerate(ask(kubeconfig, read), start=1):
        yield Document("live cluster", number, value)


class Unreachable(Failed):
    """There is no cluster, or nothing answers there."""


def ask(kubeconfig: str | None, read: Callable[[Client], Awaitable[T]]) -> T:
    """Returns what `read` finds in a live cluster.

    Raises:
        Failed: there is none, or it does not let itself be read.
    """

    async def connected() -> T:
        async with Client.from_kubeconfig(kubeconfig, component="cli") as client:
            return await read(client)

    try:
        return asyncio.run(connected())
    except ConfigError as error:
        raise Unreachable(f"no cluster to read: {error}") from None
    except ApiError as error:
        raise Failed(f"the API server answered: {error}; check what this identity may read") from None
    except KubeError as error:
        raise Unreachable(f"the cluster cannot be reached: {error}; give --kubeconfig FILE") from None


async def items(client: Client, path: str) -> list[Object]:
    """Returns every item of a collection, page by page."""
    found: list[Object] = []
    more = ""
    while True:
        query = {"limit": "500", **({"continue": more} if more else {})}
        answer = msgspec.json.decode((await client.get(path, query=query)).body)
        found += answer["items"] or []
        more = (answer.get("metadata") or {}).get("continue") or ""
        if not more:
            return found


async def _list(client: Client, path: str, api_version: str, kind: str) -> Object:
    found: list[Object] = []
    why = "nothing there is such a file"
    try:
        found = await items(client, path)
    except NotFoundError:
        pass
    except ForbiddenError as error:
        if kind != "ConfigMap":
            raise
        why = error.message
    if kind == "ConfigMap":
        found = [each for each in found if any(map(holds, (each.get("data") or {}).values()))]
        if not found:
            tell(
                f"what is planned for nodes is not known: {path}: {why}; say where its files are "
                'with --gpu-operator-namespace, or "" to do without'
            )
    return {"apiVersion": api_version, "kind": f"{kind}List", "items": found}

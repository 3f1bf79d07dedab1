"""What commands read: manifests, snapshots, or a live cluster in their place."""

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from slicewise.api.errors import BadInput
from slicewise.api.quantities import MOST
from slicewise.cli.errors import Failed
from slicewise.cli.progress import progress
from slicewise.cli.variables import variable_argument
from slicewise.inventory import gpu_operator
from slicewise.inventory.node_state import NodeRules
from slicewise.kube.object_types import OBJECT_TYPES, kind_of
from slicewise.kube.snapshot import KUEUE_NAMESPACE, Document, Object, Snapshot, collect, read_file

_TAINT_KEY: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]*(?:/[-A-Za-z0-9_.]*)?")
GPU_OPERATOR_NAMESPACE: Final = "gpu-operator"
Collection = tuple[str, str, str]
"""API path of a collection, apiVersion and kind of its items."""


# What DRA says of devices. DeviceTaintRules are v1 from Kubernetes 1.37 on.
READ_DRA: Final = (
    ("/apis/resource.k8s.io/v1/resourceslices", "resource.k8s.io/v1", "ResourceSlice"),
    ("/apis/resource.k8s.io/v1/deviceclasses", "resource.k8s.io/v1", "DeviceClass"),
    ("/apis/resource.k8s.io/v1beta2/devicetaintrules", "resource.k8s.io/v1beta2", "DeviceTaintRule"),
    ("/apis/resource.k8s.io/v1/devicetaintrules", "resource.k8s.io/v1", "DeviceTaintRule"),
)
# What a snapshot of a live cluster holds.
READ_ALWAYS: Final = (
    ("/api/v1/nodes", "v1", "Node"),
    ("/api/v1/namespaces", "v1", "Namespace"),
    ("/apis/slicewise.io/v1alpha1/slicingpolicies", "slicewise.io/v1alpha1", "SlicingPolicy"),
    ("/apis/slicewise.io/v1alpha1/quotaplans", "slicewise.io/v1alpha1", "QuotaPlan"),
    *READ_DRA,
)
READ_QUEUES: Final = (
    *(each.collection for each in OBJECT_TYPES.values()),
    ("/apis/resource.k8s.io/v1/resourceclaims", "resource.k8s.io/v1", "ResourceClaim"),
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
    ("/apis/karpenter.sh/v1/nodepools", "karpenter.sh/v1", "NodePool"),
)


def of_namespace(collections: Iterable[Collection], space: str) -> tuple[Collection, ...]:
    """Returns collections of namespaced objects, narrowed to those of one namespace."""
    return tuple(
        (f"{root}/namespaces/{space}/{plural}", version, kind)
        for path, version, kind in collections
        for root, _, plural in [path.rpartition("/")]
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
    parser.add_argument(
        "-n",
        "--namespace",
        help="namespace of objects that name none (default: the context's, as kubectl; with --snapshot, default)",
    )


def cluster_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that name a cluster."""
    parser.add_argument(
        "--snapshot",
        action="append",
        metavar="FILE",
        help="objects as `kubectl get -o yaml` prints them, instead of a live cluster: a file, a directory, or - for "
        "standard input; may be repeated",
    )
    live_arguments(parser)
    operator_argument(parser)
    kueue_argument(parser)
    node_arguments(parser)


def node_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that say of nodes what they do not say themselves; the servers have them too."""
    variable_argument(
        parser,
        "--unlabelled",
        "ignore",
        "what a plain nvidia.com/gpu is where no label says so: not counted, or a whole board",
        read=_unlabelled,
        metavar="ignore|exclusive",
    )
    variable_argument(
        parser,
        "--transient-taints",
        "",
        "taints of nodes that are leaving or not there yet, beside the customary ones; a key that ends with / "
        "stands for all that begin so",
        read=_taint_keys,
        metavar="KEY,…",
    )
    variable_argument(
        parser,
        "--largest-maximum",
        str(MOST),
        "the most devices of one name that a plan's maximum may promise of a pool",
        read=_devices,
        metavar="NUMBER",
    )


def _taint_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key for key in map(str.strip, text.split(",")) if key)
    if wrong := next((key for key in keys if not _TAINT_KEY.fullmatch(key)), None):
        raise ArgumentTypeError(
            f"{wrong!r} is no key of a taint; write for example example.com/draining, and commas between several"
        )
    return keys


def _devices(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise ArgumentTypeError(f"{text!r} is no number of devices; write one between 1 and {MOST}")
    return int(text)


def node_rules(options: Namespace) -> NodeRules:
    """Returns what those arguments say."""
    return NodeRules(options.unlabelled == "exclusive", options.transient_taints, options.largest_maximum)


def _unlabelled(text: str) -> str:
    if text not in {"ignore", "exclusive"}:
        raise ArgumentTypeError(f"{text!r} is neither ignore nor exclusive")
    return text


def live_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that say which live cluster, and as whom: kubectl's own."""
    group = parser.add_argument_group("live cluster")
    group.add_argument("--kubeconfig", metavar="FILE", help="the file to read")
    group.add_argument("--context", metavar="NAME", help="the context in it")
    group.add_argument("--cluster", metavar="NAME", help="the cluster in it, instead of the context's")
    group.add_argument("--user", metavar="NAME", help="the user in it, instead of the context's")
    group.add_argument("--as", dest="as_user", metavar="USER", help="act as this user")
    group.add_argument(
        "--as-group",
        dest="as_groups",
        action="append",
        default=[],
        metavar="GROUP",
        help="act as a member of this group; may be repeated",
    )
    group.add_argument("--as-uid", metavar="UID", help="act as this uid")


def namespace(options: Namespace) -> str:
    """Returns the namespace of objects that name none."""
    if options.namespace:
        return str(options.namespace)
    if options.snapshot:
        return "default"
    from slicewise.cli.live import chosen  # noqa: PLC0415  as below
    from slicewise.kube.config import context_namespace  # noqa: PLC0415

    return context_namespace(chosen(options))


def operator_argument(parser: ArgumentParser) -> None:
    """Adds the argument that says where a live cluster keeps what is planned for nodes."""
    variable_argument(
        parser,
        "--gpu-operator-namespace",
        GPU_OPERATOR_NAMESPACE,
        "where a live cluster has the files that plan how nodes are divided; empty: look at none",
        metavar="NAME",
    )


def operator_files(options: Namespace) -> tuple[Collection, ...]:
    """Returns the collection in which a live cluster has those files."""
    space = options.gpu_operator_namespace
    return ((gpu_operator.collection(space), "v1", "ConfigMap"),) if space else ()


def kueue_argument(parser: ArgumentParser) -> None:
    """Adds the argument that says where Kueue keeps its configuration."""
    variable_argument(
        parser,
        "--kueue-namespace",
        KUEUE_NAMESPACE,
        "where Kueue's configuration is, for what it charges otherwise than by name; empty: do not look",
        metavar="NAME",
    )


def kueue_files(options: Namespace) -> tuple[Collection, ...]:
    """Returns the collection in which a live cluster has it; none where `operator_files` is the same."""
    space = options.kueue_namespace
    if not space or space == options.gpu_operator_namespace:
        return ()
    return of_namespace((("/api/v1/configmaps", "v1", "ConfigMap"),), quote(space))


def read_quota(options: Namespace) -> tuple[Collection, ...]:
    """Returns the collections of a live cluster that quota depends on, beside those that are always read."""
    return (*READ_QUEUES, *kueue_files(options))


def manifests(options: Namespace) -> list[Document]:
    """Reads the manifests that the command line names.

    Raises:
        BadInput: one of them cannot be used, or is of another namespace than `-n` says, or there is nothing but empty
            Lists; kubectl refuses these too.
    """
    found = [document for name in options.filename for document in read_file(name, sys.stdin)]
    if not any(True for document in found for _ in document.objects()):
        raise BadInput(f"{found[0].where}: holds a {found[0].value['kind']} of no items; give the manifests")
    for document in found if options.namespace else ():
        for item in document.objects():
            metadata = item.get("metadata") or {}
            if metadata.get("namespace") not in {None, "", options.namespace}:
                raise BadInput(
                    f"{document.where}: {item['kind']} {metadata.get('name', '(unnamed)')} is of namespace "
                    f"{metadata['namespace']}, and -n says {options.namespace}; leave out -n, or name that namespace"
                )
    return found


class Unreachable(Failed):
    """There is no cluster, or nothing answers there."""


@contextmanager
def or_a_file() -> Iterator[None]:
    """Says of a cluster that nobody reaches that a file can be read in its place."""
    try:
        yield
    except Unreachable as error:
        raise Unreachable(f"{error}, or give --snapshot FILE to read a file instead") from None


def changed_argument(parser: ArgumentParser) -> None:
    """Adds the argument that names what is to be thought of as applied to the cluster."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="changed",
        action="append",
        default=[],
        metavar="FILE",
        help="plans, policies, nodes or other objects, as if you had applied them to the cluster; may be repeated",
    )


def _with(documents: Iterable[Document], changed: Sequence[Document]) -> Iterator[Document]:
    """Yields the objects of a cluster as they would be with others applied, each in place of the one of its name."""

    def key(item: Object) -> tuple[str, str, str]:
        metadata = item.get("metadata") or {}
        return kind_of(item), str(metadata.get("namespace") or ""), str(metadata.get("name", ""))

    replaced = {key(item) for document in changed for item in document.objects()}
    for document in documents:
        if replaced:
            left = [item for item in document.objects() if key(item) not in replaced]
            yield Document(
                document.source, document.number, {"apiVersion": "v1", "kind": "List", "items": left}
            )
        else:
            yield document
    yield from changed


def cluster(options: Namespace, *collections: Iterable[Collection]) -> Snapshot:
    """Reads the snapshots that the command line names, or the live cluster.

    Raises:
        BadInput: a file cannot be used.
        Failed: the cluster cannot be read.
    """
    added = getattr(options, "changed", ())
    if "-" in (options.snapshot or ()) and "-" in (*getattr(options, "filename", ()), *added):
        raise BadInput(
            "standard input: it is named both by -f and by --snapshot, and can be read once; put one into a file"
        )
    with progress("reading the cluster"):
        if options.snapshot:
            return with_changed(options, (d for name in options.snapshot for d in read_file(name, sys.stdin)))
        from slicewise.cli.live import live  # noqa: PLC0415  the libraries of the network load slowly

        with or_a_file():
            return with_changed(options, live(options, READ_ALWAYS, operator_files(options), *collections))


def with_changed(options: Namespace, documents: Iterable[Document]) -> Snapshot:
    """Returns the cluster that documents hold, as it would be with what `changed_argument` names applied to it."""
    added = getattr(options, "changed", ())
    changed = [document for name in added for document in read_file(name, sys.stdin)]
    snapshot = collect(_with(documents, changed), node_rules(options))
    snapshot.kueue_namespace = options.kueue_namespace
    return snapshot

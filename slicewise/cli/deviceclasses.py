"""`slicewise deviceclasses`: the DeviceClasses under which pods get what a DRA driver publishes."""

from argparse import ArgumentParser, Namespace

from slicewise.cli.inputs import READ_DRA, cluster, cluster_arguments
from slicewise.cli.output import tell, to_json, to_yaml
from slicewise.inventory.device_classes import device_classes
from slicewise.inventory.sources.dra import published


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `deviceclasses`."""
    cluster_arguments(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")


def run(options: Namespace) -> int:
    """Prints a DeviceClass for each profile and model that NVIDIA's DRA driver publishes."""
    snapshot = cluster(options, READ_DRA)
    devices, unusable = published(snapshot.of("ResourceSlice.resource.k8s.io"))
    documents, unprinted = device_classes(devices, snapshot.of("DeviceClass.resource.k8s.io"))
    for complaint in (*unusable, *unprinted):
        tell(f"warning: {complaint}")
    if options.output == "json":
        print(to_json({"apiVersion": "v1", "kind": "List", "items": documents}))
    elif documents:
        print(to_yaml(documents), end="")
    else:
        tell("no DeviceClass is wanted: no complete ResourceSlices of gpu.nvidia.com need one")
    return 0

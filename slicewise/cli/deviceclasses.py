"""`slicewise deviceclasses`: the DeviceClasses under which pods get what a DRA driver publishes."""

from argparse import ArgumentParser, Namespace

from slicewise.cli.inputs import cluster, cluster_arguments
from slicewise.cli.output import print_objects, tell
from slicewise.inventory.device_classes import device_classes
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import published
from slicewise.kube.object_types import DEVICE_CLASS, RESOURCE_SLICE


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `deviceclasses`."""
    cluster_arguments(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")


def run(options: Namespace) -> int:
    """Prints a DeviceClass for each profile and model that NVIDIA's DRA driver publishes."""
    snapshot = cluster(options)
    devices, unusable = published(snapshot.of(RESOURCE_SLICE))
    documents, unprinted = device_classes(devices, map(read_device_class, snapshot.of(DEVICE_CLASS)))
    for complaint in (*unusable, *unprinted):
        tell(f"warning: {complaint}")
    print_objects(
        documents,
        options.output,
        none="no DeviceClass is wanted: no complete ResourceSlices of gpu.nvidia.com need one",
    )
    return 0

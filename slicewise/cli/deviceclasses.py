"""`slicewise deviceclasses`: the DeviceClasses under which pods get what a DRA driver publishes."""

from argparse import ArgumentParser, Namespace

from slicewise.cli.inputs import cluster, cluster_arguments
from slicewise.cli.output import output_argument, print_objects, tell
from slicewise.inventory.device_classes import device_classes
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import published
from slicewise.kube.object_types import DEVICE_CLASS, RESOURCE_SLICE
from slicewise.kube.snapshot import Object


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `deviceclasses`."""
    cluster_arguments(parser)
    output_argument(parser, default="yaml")


def run(options: Namespace) -> int:
    """Prints a DeviceClass for each profile and model that NVIDIA's DRA driver publishes."""
    snapshot = cluster(options)
    devices, unusable = published(snapshot.of(RESOURCE_SLICE))
    documents, unprinted = device_classes(devices, map(read_device_class, snapshot.of(DEVICE_CLASS)))
    for complaint in (*unusable, *unprinted):
        tell(f"warning: {complaint}")
    none = "no DeviceClass is wanted: no complete ResourceSlices of gpu.nvidia.com need one"
    print_objects(documents, ("SERVES", _serves), ("SELECTORS", _selectors), options.output, none)
    return 0


def _serves(device_class: Object) -> str:
    return str(device_class["spec"].get("extendedResourceName", "-"))


def _selectors(device_class: Object) -> str:
    return " and ".join(each["cel"]["expression"] for each in device_class["spec"]["selectors"])

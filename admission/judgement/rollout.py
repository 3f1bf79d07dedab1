"""Which work a policy's rollout has reached.  Pure.

An owner is in or out by a hash of its namespace and name: the same on every replica and for every replacement of its
pods, and what is in at one percentage stays in at every larger one.
"""

import re
import zlib
from typing import Final

from admission.kinds.reading import Workload
from slicewise.policy import PolicySpec

_TEMPLATE_HASH: Final = "pod-template-hash"
# A CronJob calls its Jobs after the minute that they are for (kubernetes, pkg/controller/cronjob/utils.go).
_SCHEDULED: Final = re.compile(r"-\d{8,11}$")


def reached(workload: Workload, spec: PolicySpec) -> bool:
    """True when the rollout has reached the workload's owner."""
    percent = spec.rollout.percent
    return percent == 100 or bucket(workload) < percent


def bucket(workload: Workload) -> int:
    """Returns 0 to 99: the percentage above which the workload's owner is reached."""
    return zlib.crc32(f"{workload.namespace}/{_owner(workload)}".encode()) % 100


def _owner(workload: Workload) -> str:
    metadata = workload.metadata
    controller = metadata.controller
    if controller is None:
        return metadata.name or metadata.generate_name or ""
    if controller.kind == "ReplicaSet":
        return controller.name.removesuffix(f"-{metadata.label(_TEMPLATE_HASH)}")
    return _SCHEDULED.sub("", controller.name)

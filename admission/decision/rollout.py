"""Which work a policy's rollout has reached.  Pure.

An owner is in or out by a hash of its namespace and name: the same on every replica and for every replacement of its
pods, and what is in at one percentage stays in at every larger one.
"""

import re
import zlib
from typing import Final

from admission.workloads.builtin_kinds import POD_LABELS
from admission.workloads.model import Workload
from slicewise.api.policy import PolicySpec

_TEMPLATE_HASH: Final = "pod-template-hash"
# What children are called behind their owner's name: a CronJob's Jobs after the minute that they are for (kubernetes,
# pkg/controller/cronjob/utils.go), and whatever has a generated name (apimachinery, util/rand; kuberay, util.go).
_BEHIND: Final = re.compile(r"(?:-\d{8,11}|(?:-raycluster)?-[bcdfghjklmnpqrstvwxz2456789]{5})+$")


def in_rollout(workload: Workload, spec: PolicySpec) -> bool:
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
        name = metadata.name or (metadata.generate_name or "").removesuffix("-")
    elif said := next((label for key in POD_LABELS if (label := metadata.label(key))), ""):
        name = said
    else:
        name = controller.name.removesuffix(f"-{metadata.label(_TEMPLATE_HASH)}")
    return _BEHIND.sub("", name)

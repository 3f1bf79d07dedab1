"""The fields of a Node that are decoded and kept, and nothing else."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Taint(msgspec.Struct, frozen=True, gc=False):
    """A node's taint."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class _Metadata(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None
    resource_version: str = ""
    uid: str = ""


class _Spec(msgspec.Struct, frozen=True, gc=False):
    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None


class _Condition(msgspec.Struct, frozen=True, gc=False):
    type: str
    status: str = ""


class _Status(msgspec.Struct, frozen=True, gc=False):
    # Quantities as they came: one that cannot be read is a doubt about its node, and stops no other.
    capacity: dict[str, Any] | None = None
    allocatable: dict[str, Any] | None = None
    conditions: tuple[_Condition, ...] | None = None


class Node(msgspec.Struct, frozen=True, gc=False):
    """The fields of a v1 Node that anything here reads; unknown ones are skipped while decoding."""

    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def name(self) -> str:
        """The node's name."""
        return self.metadata.name

    @property
    def labels(self) -> Mapping[str, str]:
        """The node's labels."""
        return self.metadata.labels or {}

    @property
    def taints(self) -> tuple[Taint, ...]:
        """The node's taints."""
        return self.spec.taints or ()

    @property
    def ready(self) -> bool:
        """True when the kubelet reports Ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())

"""What kubectl, server-side apply and Helm send when a manifest is applied over what stands.  Pure.

Kubernetes' own kinds have lists that are merged by a key of their items; of other kinds lists are replaced whole, but
where their schemas say otherwise, which is not known here (kubernetes.io, "Merge strategy to calculate differences";
helm, pkg/kube/client.go, createPatch; structured-merge-diff for fieldsV1).
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from enum import StrEnum
from typing import Any, Final

from slicewise.api import keys

Object = dict[str, Any]

# Lists of Kubernetes' own kinds, by the field of their items that tells them apart (k8s.io/api, patchMergeKey).
_MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_NO_KEYS: Final[Mapping[str, str]] = {}


class Client(StrEnum):
    """Who applies a manifest."""

    KUBECTL = "kubectl"
    SERVER_SIDE = "server-side"
    HELM = "helm"

    @property
    def field_manager(self) -> str:
        """The name that it gives itself as an owner of fields."""
        return {Client.KUBECTL: "kubectl-client-side-apply", Client.SERVER_SIDE: "kubectl"}.get(self, "helm")


def applied(client: Client, manifest: Object) -> Object:
    """Returns a manifest as it comes when it is applied for the first time: with what the client notes of it."""
    found = deepcopy(manifest)
    return _noted(client, found, manifest)


def applied_again(client: Client, before: Object, now: Object, standing: Object) -> Object:
    """Returns the object as it comes when another manifest is applied.

    Args:
        client: who applies.
        before: the manifest as it was applied last.
        now: the manifest as it is applied now.
        standing: the object as it stands.
    """
    group = str(now.get("apiVersion", "")).rpartition("/")[0]
    takes_nulls = client is Client.SERVER_SIDE  # as values; other clients have them for "take this away"
    if group in keys.BUILT_IN:
        merged = _merged(standing, before, now, _MERGE_KEYS, nulls=takes_nulls)
    elif client is Client.HELM:
        merged = _patched(standing, before, now)
    else:
        merged = _merged(standing, before, now, _NO_KEYS, nulls=takes_nulls)
    return _noted(client, merged, now)


def last_applied(item: Object) -> Object | None:
    """Returns the manifest that kubectl applied last; None where there is none, or none that can be read."""
    text = ((item.get("metadata") or {}).get("annotations") or {}).get(keys.LAST_APPLIED)
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _noted(client: Client, item: Object, manifest: Object) -> Object:
    metadata = dict(item.get("metadata") or {})
    if client is Client.KUBECTL:
        text = json.dumps(manifest, separators=(",", ":"))
        metadata["annotations"] = {**(metadata.get("annotations") or {}), keys.LAST_APPLIED: text}
    if client is Client.SERVER_SIDE:
        keyed = str(manifest.get("apiVersion", "")).rpartition("/")[0] in keys.BUILT_IN
        entry = {
            "manager": client.field_manager,
            "operation": "Apply",
            "apiVersion": manifest.get("apiVersion"),
            "fieldsType": "FieldsV1",
            "fieldsV1": _fields(manifest, _MERGE_KEYS if keyed else _NO_KEYS),
        }
        metadata["managedFields"] = [entry]
    return {**item, "metadata": metadata}


def _merged(
    stands: Any, before: Any, now: Any, keys: Mapping[str, str], field: str = "", *, nulls: bool
) -> Any:
    """A three-way merge: what left the manifest goes, what is in it is set, and the rest stays."""
    key = keys.get(field)
    if isinstance(now, dict) and isinstance(stands, dict):
        former = before if isinstance(before, dict) else {}
        found = {name: value for name, value in stands.items() if name not in former.keys() - now.keys()}
        for name, value in now.items():
            if value is None and not nulls:
                found.pop(name, None)
            else:
                found[name] = _merged(found.get(name), former.get(name), value, keys, name, nulls=nulls)
        return found
    if key and isinstance(now, list) and isinstance(stands, list):
        there, former, wanted = (_by_key(each, key) for each in (stands, before, now))
        return list(_merged(there, former, wanted, keys, nulls=nulls).values())
    return deepcopy(now)


def _by_key(items: Any, key: str) -> dict[Any, Any]:
    listed = items if isinstance(items, list) else []
    return {str(each.get(key)): each for each in listed if isinstance(each, dict)}


def _patched(stands: Any, before: Any, now: Any) -> Any:
    """What changed between two manifests, over what stands: a JSON merge patch that never looks at it."""
    if not all(isinstance(each, dict) for each in (stands, before, now)):
        return deepcopy(stands if before == now else now)
    found = {name: value for name, value in stands.items() if name not in before.keys() - now.keys()}
    for name, value in now.items():
        if value is None:
            found.pop(name, None)
        elif before.get(name) != value:
            found[name] = _patched(found.get(name), before.get(name), value)
    return found


def _fields(value: Any, keys: Mapping[str, str], field: str = "") -> Object:
    """The fields of a manifest as managedFields names them."""
    if isinstance(value, dict):
        return {f"f:{name}": _fields(each, keys, name) for name, each in value.items()}
    key = keys.get(field)
    if key and isinstance(value, list):
        return {
            f"k:{json.dumps({key: each.get(key)}, separators=(',', ':'))}": {".": {}, **_fields(each, keys)}
            for each in value
            if isinstance(each, dict)
        }
    return {}

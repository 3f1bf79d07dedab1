"""Slips of the pen in manifests of Kubernetes' own kinds, for which the API server would not take them."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from admission.workloads.builtin_kinds import TABLE
from admission.workloads.decoder import Templates
from slicewise.api import keys
from slicewise.api.errors import did_you_mean
from slicewise.kube.snapshot import Object

_CONTAINERS: Final = "containers"
_OTHERS: Final = frozenset({"initContainers", "ephemeralContainers"})


def misspellings(item: Object, kinds: Templates) -> Iterator[str]:
    """Yields what is misspelt: the kind, the version, or the containers of a pod spec."""
    version, kind = item["apiVersion"], item["kind"]
    group = version.rpartition("/")[0]
    if group not in keys.BUILT_IN:
        return
    metadata = item.get("metadata") or {}
    title = f"{kind} {metadata.get('name') or metadata.get('generateName', '(unnamed)')}"
    reader = kinds.reader(group, kind)
    if reader is None:
        if meant := did_you_mean(kind, (row.kind for row in TABLE if row.group == group)):
            yield f"{title}: {version} has no kind {kind}{meant}"
        return
    versions = [f"{group}/{each}".lstrip("/") for each in reader.kind.versions]
    if version not in versions:
        yield f"{title}: there is no apiVersion {version} of this kind; did you mean {versions[0]}?"
    try:
        templates = reader.read(msgspec.json.encode(item), metadata.get("namespace") or "").templates
    except msgspec.DecodeError:
        return
    for template in templates:
        spec: Any = item
        for part in template.spec_pointer.split("/")[1:]:
            spec = spec.get(part) if isinstance(spec, dict) else None
        if isinstance(spec, dict) and _CONTAINERS not in spec:
            for name in spec:
                if did_you_mean(_CONTAINERS, (name,)) and name not in _OTHERS:
                    yield f"{title}: {template.spec_pointer} has no field {name}; did you mean {_CONTAINERS}?"

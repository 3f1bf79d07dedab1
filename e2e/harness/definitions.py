"""Other projects' CustomResourceDefinitions, as a test run gives them to an API server."""

from __future__ import annotations

import copy
from typing import Any

from e2e.harness.client import Object

# What stands under these is a value, not a schema.
_VALUES = frozenset({"default", "enum", "example"})


def permissive(group: str, kind: str, version: str, plural: str, scope: str = "Namespaced") -> Object:
    """A definition of a kind that keeps whatever it is given."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": scope,
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def undescribed(definition: Object) -> Object:
    """The definition without the descriptions in its schemas, which decide nothing.

    They are about half of its bytes, and the API server reads and writes all of it some ten times.
    """
    versions = [
        {**version, "schema": _without(version["schema"])} if "schema" in version else version
        for version in definition["spec"]["versions"]
    ]
    return {**definition, "spec": {**definition["spec"], "versions": versions}}


def without_status(definition: Object) -> Object:
    """The definition with any status: only the kind's own controllers write that, and theirs can be half of it."""
    definition = copy.deepcopy(definition)
    for version in definition["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"].get("properties", {})
        if "status" in properties:
            properties["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return definition


def _without(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _VALUES else _without(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str))
    }

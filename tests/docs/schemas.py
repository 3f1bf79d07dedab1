"""Just enough of JSON Schema to hold what the command prints against what the documentation says."""

from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}
_KNOWN: Final = frozenset(
    {"$id", "type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "description"}
)


def faults(value: Any, schema: dict[str, Any], path: str = "$") -> Iterator[str]:
    """Yields what about a value breaks the schema; an object may have only the properties that are listed."""
    assert not schema.keys() - _KNOWN, f"{path}: schemas here use {', '.join(sorted(_KNOWN))} alone"
    if "anyOf" in schema:
        if not any(not list(faults(value, each, path)) for each in schema["anyOf"]):
            yield f"{path}: fits none of the alternatives"
        return
    kind = schema.get("type")
    if kind == "null":
        if value is not None:
            yield f"{path}: is not null"
        return
    if kind is not None and (
        not isinstance(value, _TYPES[kind]) or (kind in {"integer", "number"} and isinstance(value, bool))
    ):
        yield f"{path}: is a {type(value).__name__}, not {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{path}[{number}]")


def _object(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}: {name} is missing"
    for name, item in value.items():
        more = schema.get("additionalProperties", not properties)
        if name in properties:
            yield from faults(item, properties[name], f"{path}.{name}")
        elif isinstance(more, dict):
            yield from faults(item, more, f"{path}.{name}")
        elif not more:
            yield f"{path}: {name} is not documented"

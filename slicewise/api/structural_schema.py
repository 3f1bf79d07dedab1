"""JSON schema as pydantic writes it -> a structural schema as CustomResourceDefinitions take it. Pure.

No references, no alternatives, no pattern for a map's keys: what has no structural form is resolved, said in CEL, or
refused, so that nothing which a model demands is lost without notice; the patterns of keys alone are left to readers.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = dict[str, Any]

_KEPT: Final = (
    "type", "description", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
_STRUCTURE: Final = {
    "$ref", "$defs", "anyOf", "properties", "items", "additionalProperties", "patternProperties", "propertyNames",
    "default", "title", "const",
}  # fmt: skip


def cel(rule: str, message: str) -> Schema:
    """Returns one entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message}


def structural(model: Schema, rules: Mapping[str, list[Schema]], extras: Mapping[str, Schema]) -> Schema:
    """Turns a model's JSON schema into a structural one, with the rules and extras at their paths.

    Raises:
        ValueError: the schema holds something that has no structural form, or a path that leads nowhere.
    """
    definitions = model.get("$defs", {})
    placed: set[str] = set()

    def walk(schema: Schema, path: str) -> Schema:
        schema = _resolved(schema, definitions)
        if unknown := schema.keys() - set(_KEPT) - _STRUCTURE:
            raise ValueError(
                f"{path}: {', '.join(sorted(unknown))} has no structural form; teach slicewise.api.crds"
            )
        shape = _alternatives(schema, path)
        made: Schema = {
            **_described(schema),
            **{
                key: shape[key]
                for key in (*_KEPT, "x-kubernetes-int-or-string")
                if key in shape and key != "description"
            },
        }
        validations = [*_key_rules(schema, definitions), *rules.get(path, ())]
        for key, inner in _children(schema, definitions):
            if key == "items":
                made["items"] = walk(inner, f"{path}[]")
            elif key == "*":
                made["additionalProperties"] = walk(inner, f"{path}.*".removeprefix("."))
            else:
                made.setdefault("properties", {})[key] = walk(inner, f"{path}.{key}".removeprefix("."))
        made |= extras.get(path, {})
        if validations:
            made["x-kubernetes-validations"] = validations
        placed.add(path)
        return made

    result = walk(model, "")
    if lost := (rules.keys() | extras.keys()) - placed:
        raise ValueError(f"no field has the path {', '.join(sorted(lost))}")
    return result


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Follows a reference; what stands beside it wins. A value that may be null is simply one that may be left out."""
    own = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf"}}
    alternatives = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if "$ref" in schema:
        return {**_resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions), **own}
    if len(alternatives) == 1:
        return {**_resolved(alternatives[0], definitions), **own}
    return {**own, "anyOf": alternatives} if alternatives else own


def _alternatives(schema: Schema, path: str) -> Schema:
    if "anyOf" not in schema:
        return schema
    if {one.get("type") for one in schema["anyOf"]} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True}
    raise ValueError(f"{path}: alternatives have no structural form")


def _described(schema: Schema) -> Schema:
    text = schema.get("description", "")
    default = schema.get("default")
    if default not in (None, "", [], {}) and not isinstance(default, dict):
        said = ", ".join(default) if isinstance(default, list) else json.dumps(default).strip('"')
        text = f"{text} Default: {said}.".strip()
    return {"description": text} if text else {}


def _children(schema: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Yields what a schema contains: properties by name, `*` for a map's values, `items` for a list's."""
    yield from schema.get("properties", {}).items()
    names = _resolved(schema.get("propertyNames", {}), definitions).get("enum")
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        # A map whose keys are known is an object, which the API server can check and explain.
        yield from ((name, values) for name in names) if names else [("*", values)]
    for inner in schema.get("patternProperties", {}).values():
        yield "*", inner
    if "items" in schema:
        yield "items", schema["items"]


def _key_rules(schema: Schema, definitions: Schema) -> Iterator[Schema]:
    """Says in CEL what a structural schema cannot say of a map's keys. Patterns would exceed the cost budget."""
    names = _resolved(schema.get("propertyNames", {}), definitions)
    if "maxLength" in names and "maxProperties" in schema:
        longest = names["maxLength"]
        yield cel(
            f"self.all(key, size(key) <= {longest})",
            f"a name is longer than {longest} characters; shorten it",
        )

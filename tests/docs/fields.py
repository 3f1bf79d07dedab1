"""The fields of our two kinds, as the tables of docs/reference.md, out of the models."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from slicewise.api.policy import PlanSpec, PolicySpec

MODELS: Final[dict[str, type[BaseModel]]] = {"SlicingPolicy": PolicySpec, "QuotaPlan": PlanSpec}
Schema = dict[str, Any]


def table(model: type[BaseModel]) -> str:
    """Returns the fields of one spec as a Markdown table."""
    schema = model.model_json_schema(by_alias=True)
    rows = ["| field | value | left out | meaning |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{path}` | {value} | {default} | {words} |"
        for path, value, default, words in _rows("spec", schema, schema)
    ]
    return "\n".join(rows)


def _rows(path: str, schema: Schema, root: Schema) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        inner = _resolved(given, root)
        default = "required" if name in required else _default(given.get("default"))
        words = given.get("description") or inner.get("description", "").partition("\n")[0]
        here = f"{path}.{name}"
        yield here, _value(inner, root), default, words
        yield from _inside(here, inner, root)


def _inside(path: str, schema: Schema, root: Schema) -> Iterator[tuple[str, str, str, str]]:
    if schema.get("properties"):
        yield from _rows(path, schema, root)
    elif schema.get("type") == "array":
        yield from _inside(f"{path}[]", _resolved(schema.get("items", {}), root), root)
    elif schema.get("type") == "object":
        yield from _inside(f"{path}.*", _resolved(_values(schema), root), root)


def _values(schema: Schema) -> Schema:
    found: Any = schema.get("additionalProperties") or next(
        iter(schema.get("patternProperties", {}).values()), {}
    )
    return found if isinstance(found, dict) else {}


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Follows a reference, and takes out what only says that a field may be left out."""
    options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(options) == 1:
        return _resolved(options[0], root)
    if "$ref" in schema:
        found: Schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _value(schema: Schema, root: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_value(_resolved(each, root), root) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            return f"number, {low} to {high}" if low is not None else "number"
        case "boolean":
            return "`true`, `false`"
        case "array":
            return f"list of {_value(_resolved(schema.get('items', {}), root), root)}"
        case "object" if schema.get("properties"):
            return "object"
        case "object":
            return f"map to {_value(_resolved(_values(schema), root), root)}"
        case _:
            return "text"


def _default(value: Any) -> str:
    if value is None or value in ([], {}, ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return ", ".join(f"`{key}: {each}`" for key, each in value.items() if each not in ([], {}))
    return ", ".join(f"`{each}`" for each in value) if isinstance(value, list) else f"`{value}`"

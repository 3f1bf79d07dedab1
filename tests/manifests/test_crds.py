"""The generated definitions: current, structural, and with every rule in its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from slicewise.api.crds import FOLDER, definitions, rendered
from slicewise.api.structural_schema import structural

ROOT = Path(__file__).parents[2]
# What apiextensions/v1 JSONSchemaProps allows below the root of a structural schema, and we use.
ALLOWED = {
    "type", "description", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "required", "properties", "additionalProperties", "items",
    "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def _schemas(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _schemas(inner, f"{path}.{name}")
    for key in ("additionalProperties", "items"):
        if key in schema:
            yield from _schemas(schema[key], f"{path}.{key}")


def test_the_files_are_current() -> None:
    files = {path.name: path.read_text() for path in (ROOT / FOLDER).glob("*.yaml")}
    assert files == rendered(), "run `make generate`"


@pytest.mark.parametrize("name", definitions())
def test_schemas_are_structural(name: str) -> None:
    (version,) = definitions()[name]["spec"]["versions"]
    for path, schema in _schemas(version["schema"]["openAPIV3Schema"], ""):
        assert schema.keys() <= ALLOWED, path
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        assert not {"properties", "additionalProperties"} <= schema.keys(), path


def test_maps_with_known_keys_are_objects() -> None:
    (version,) = definitions()["slicingpolicies.slicewise.io"]["spec"]["versions"]
    needs = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["needs"]
    assert set(needs["properties"]) == {"hardware-isolation", "throughput", "burst"}


def test_a_rule_without_its_field_is_an_error() -> None:
    class Model(BaseModel):
        one: int = 1

    with pytest.raises(ValueError, match="no field has the path two"):
        structural(Model.model_json_schema(), {"two": []}, {})


def test_what_has_no_structural_form_is_an_error() -> None:
    class Multiple(BaseModel):
        one: int = Field(multiple_of=2)

    class Either(BaseModel):
        one: int | bool

    with pytest.raises(ValueError, match="one: multipleOf has no structural form"):
        structural(Multiple.model_json_schema(), {}, {})
    with pytest.raises(ValueError, match="one: alternatives have no structural form"):
        structural(Either.model_json_schema(), {}, {})

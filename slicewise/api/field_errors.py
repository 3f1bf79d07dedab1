"""What pydantic finds wrong with YAML, in the words of the file: the path of a field, what is wrong, what is right."""

import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from slicewise.api.errors import did_you_mean
from slicewise.api.models import FieldError

_SHOWN: Final = 80
_CONTENT: Final = ("properties", "items", "additionalProperties", "patternProperties")
"""What a schema has of something that holds something else."""
# pydantic speaks of Python; who wrote the object wrote YAML.
_WORDS: Final = (
    (re.compile(r"<\w+\.\w+: '([^']*)'>"), r"'\1'"),
    (re.compile(r"\b(tuple|dictionary)\b"), lambda word: {"tuple": "list", "dictionary": "map"}[word[0]]),
    (re.compile(r" after validation, not \d+"), ""),
    (re.compile(r" or instance of \w+"), ""),
    (re.compile(r", unable to .*(?=;)"), ""),
    (re.compile(r"\ba valid string\b"), "text"),
    (re.compile(r"\ba valid integer\b"), "an integer"),
    (re.compile(r"\ba valid "), "a "),
    (re.compile(r"^\w+ should "), "must "),
)


def first(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Returns the path of the first field that is wrong, below the object that the model reads, and a sentence."""
    detail = error.errors(include_url=False)[0]
    schema = _schema(model)
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    if detail["type"] == "invalid_key" or _is_branch(schema, loc):
        loc = loc[:-1]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    message = detail["msg"].removeprefix("Value error, ")
    context = detail.get("ctx", {})
    if isinstance(cause := context.get("error"), FieldError):
        path = f"{path}.{cause.field}".removeprefix(".")
    if detail["type"] == "extra_forbidden":
        meant = did_you_mean(str(loc[-1]), _fields(schema, loc[:-1]))
        otherwise = "there is no such field; remove it or correct its spelling"
        message = f"there is no such field{meant}" if meant else otherwise
    elif detail["type"] == "missing":
        message = "is missing; add it"
    elif detail["type"] == "invalid_key":
        message = f"the key {_shown(detail['input'])} is no text; put it in quotes"
    elif detail["type"] != "value_error":
        message = f"{message[:1].lower()}{message[1:]}; found {_shown(detail['input'])}"
        for pattern, word in _WORDS:
            message = pattern.sub(word, message)
        message += did_you_mean(str(detail["input"]), re.findall("'([^']*)'", context.get("expected", "")))
    return path, message


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _fields(schema: dict[str, Any], path: Iterable[int | str]) -> list[str]:
    """Returns the names of the fields of what a JSON schema has at a path."""
    return [name for node in _at(schema, path) for name in node.get("properties", {})]


def _is_branch(schema: dict[str, Any], loc: tuple[int | str, ...]) -> bool:
    """True where pydantic's place ends with the type that it tried of several, which no YAML has."""
    above = _at(schema, loc[:-1])
    return bool(above) and all(node.keys().isdisjoint(_CONTENT) for node in above)


def _at(schema: dict[str, Any], path: Iterable[int | str]) -> list[dict[str, Any]]:
    """Returns what a JSON schema has at a path."""
    defined = schema.get("$defs", {})
    nodes = _alternatives(schema, defined)
    for part in path:
        below = (each for node in nodes for each in _below(node, part))
        nodes = [found for each in below for found in _alternatives(each, defined)]
    return nodes


def _below(node: dict[str, Any], part: int | str) -> Iterable[Any]:
    if isinstance(part, int):
        return [node.get("items")]
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    return [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]


def _alternatives(node: Any, defined: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what a schema stands for: itself, what it refers to, or each of what it may be."""
    if not isinstance(node, dict):
        return []
    if "$ref" in node:
        return _alternatives(defined[node["$ref"].rpartition("/")[2]], defined)
    if "anyOf" in node:
        return [found for each in node["anyOf"] for found in _alternatives(each, defined)]
    return [node]


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

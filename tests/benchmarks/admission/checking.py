"""That two servers gave the same answer: the objects that their patches make are compared, not the patches."""

import base64
import json
from typing import Any

import jsonpatch

Object = dict[str, Any]


class Unequal(Exception):  # noqa: N818  it is a finding, not a failure of the check
    """Two answers differ in effect; the message says where."""


def effect(body: bytes, answer: bytes) -> Object:
    """Returns what an answer makes of the object of a review, as far as the three servers must agree."""
    response = json.loads(answer)["response"]
    if not response["allowed"]:
        raise Unequal(f"refused: {response['status']['message']}")
    request = json.loads(body)["request"]
    item = request["object"]
    if "patch" in response:
        item = jsonpatch.apply_patch(item, json.loads(base64.b64decode(response["patch"])))
    template = item if item["kind"] == "Pod" else item["spec"]["template"]
    spec = template["spec"]
    return {
        "resources": {each["name"]: each["resources"] for each in spec["containers"]},
        "affinity": spec.get("affinity"),
        "tolerations": spec.get("tolerations"),
        "annotations": sorted(item["metadata"].get("annotations") or {}),
    }


def compare(body: bytes, answers: dict[str, bytes]) -> None:
    """Compares the effects of all answers to one review.

    Raises:
        Unequal: with the two that differ.
    """
    effects = {name: effect(body, answer) for name, answer in answers.items()}
    (first, expected), *others = effects.items()
    for name, found in others:
        for part, value in expected.items():
            if found[part] != value:
                raise Unequal(f"{part}: {first} says {value}, {name} says {found[part]}")

"""Updates as people make them: what was admitted, or what was sent, with containers renamed, items moved, copied and
dropped, requests changed and records lost. Nothing is malformed here; `damage` is for that."""

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any, Final

from slicewise.api import keys
from tests.admission.building import GPU, Object, review
from tests.admission.kinds import NAMES, manifest, merged, patched
from tests.fuzz import corpus

_CLASSES: Final = (
    "inference",
    "sized",
    "exact",
    "notebook",
    "batch-inference",
    "virtual",
    "training",
    "tuning",
)
_DEVICES: Final = (GPU, GPU, GPU, "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb")
_CONTAINERS: Final = frozenset(
    {"containers", "initContainers", "steps", "sidecars", "stepSpecs", "sidecarSpecs"}
)


def update(rng: Random) -> bytes | None:
    """Returns a review of an edited object; None where its creation was refused."""
    name, namespace = rng.choice(NAMES), rng.choice([*corpus.NAMESPACES])
    sent = manifest(name, namespace=namespace)
    if rng.random() < 0.7:
        sent["metadata"].setdefault("labels", {})[keys.WORKLOAD_CLASS] = rng.choice(_CLASSES)
    for _ in range(rng.randrange(4)):
        _edit(rng, sent)
    answered = review(corpus.cluster(), sent)
    if not answered.allowed:
        return None
    old = answered.item
    ways = (deepcopy(old), deepcopy(old), deepcopy(sent), merged(deepcopy(old), sent), patched(old, sent))
    new = deepcopy(rng.choice(ways))
    for _ in range(rng.randint(1, 3)):
        _edit(rng, new)
    return json.dumps(corpus.enveloped(new, namespace, "UPDATE", old)).encode()


def _edit(rng: Random, item: Object) -> None:
    below = [each for key, each in item.items() if key != "metadata"]
    containers = [each for _, each in _lists(below, _CONTAINERS)]
    amounts = list(_amounts(below))
    lists = [items for items, _ in _lists(below)]
    match rng.randrange(6):
        case 0 | 1 if containers:
            names = ["main", "x", rng.choice(containers).get("name", "a")]
            rng.choice(containers)["name"] = rng.choice(names)
        case 2 if amounts:
            _ask(rng, rng.choice(amounts))
        case 3 if containers:
            resources = rng.choice(containers).setdefault("resources", {})
            if isinstance(limits := resources.setdefault("limits", {}), dict):
                limits[GPU] = rng.choice([1, 1, 2])
        case 4 if lists:
            items = rng.choice(lists)
            items.append(deepcopy(rng.choice(items)))
            if rng.random() < 0.6:
                items.pop(rng.randrange(len(items)))
            rng.shuffle(items)
        case _:
            (item["metadata"].get("annotations") or {}).pop(keys.DECISION, None)


def _ask(rng: Random, amounts: Object) -> None:
    if rng.random() < 0.7:
        for name in [each for each in amounts if each.startswith(keys.VENDOR)]:
            del amounts[name]
    if rng.random() < 0.7:
        amounts[rng.choice(_DEVICES)] = rng.choice([0, 1, 2, "1", "9"])


def _lists(value: Any, names: frozenset[str] = frozenset()) -> Iterator[tuple[list[Object], Object]]:
    """Yields each object in a list beneath a value, with its list; of lists that are called so, where names are."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, list) and (not names or key in names):
            yield from ((each, item) for item in each if isinstance(item, dict))
        if key != "metadata" and isinstance(each, dict | list):
            yield from _lists(each, names)


def _amounts(value: Any) -> Iterator[Object]:
    """Yields the maps beneath a value that ask for a resource of NVIDIA's."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if key in {"requests", "limits"} and isinstance(each, dict) and keys.VENDOR in str(each):
            yield each
        elif key != "metadata" and isinstance(each, dict | list):
            yield from _amounts(each)

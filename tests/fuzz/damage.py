"""Small damages to a document and to its bytes, drawn from a random source: the same source does the same."""

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any, Final

from slicewise.api import keys

Place = tuple[Any, Any]
"""A map or list, and the key or index in it."""

QUANTITIES: Final[tuple[Any, ...]] = (
    *(
        "1",
        "2",
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1.",
        ".5",
        "0.5",
        "1k",
        "1Ki",
        "1Ei",
        "1E",
        "1e3",
        "1E3",
        "1e-3",
    ),
    *("1000m", "1500m", "1n", "1000000u", "9223372036854775807", "9223372036854775808", "1e400", "9" * 5000),
    *(
        "",
        " 1",
        "1 ",
        "1K",
        "1ki",
        "one",
        "$(params.gpus)",
        "{{ gpus }}",
        "0x10",
        "1_0",
        "\u0661",
        "NaN",
        "Infinity",
    ),
    *(0, 1, 2, 8, -1, 1.0, 1.5, -0.0, 1e300, 2**31, 2**63, 2**64, 10**400, True, False, None, [], {}, ["1"]),
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 1.5, 2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "a",
        "0",
        "null",
        "\x00",
        "\u202e",
        "é",
        "e\u0301",
        "😀",
        "\ud800",
        "~",
        "/",
        "~1",
        "~0",
        "-",
        "a/b",
    ),
    *("x" * 300, "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "slicewise.io/pool", "{}", "[]", '{"a":', "\\"),
    *([], {}, [None], [[]], [{}], {"": None}, {"a": {}}, {"0": 0}, {"-": 1}, {"name": None}, ["a", 1, None]),
)
RESOURCES: Final = (
    *(
        keys.GPU,
        keys.GPU_SHARED,
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/mig-1g.10gb.shared",
        "nvidia.com/mig-",
    ),
    *(
        "nvidia.com/mig-9g.999gb",
        "nvidia.com/",
        "nvidia.com/gpu ",
        "NVIDIA.com/gpu",
        "nvidia.com/gpu~1",
        "amd.com/gpu",
    ),
    *("nvidia.com/mig-1g.10gb.me", "nvidia.com/a~b/c", "requests.nvidia.com/gpu", "cpu", ""),
)
SAID: Final[dict[str, tuple[Any, ...]]] = {
    keys.WORKLOAD_CLASS: ("inference", "training", "tuning", "inferense", "", "notebook", "sized", "exact"),
    keys.GPU_MEMORY: ("16Gi", "1", "0", "-1Gi", "9" * 99, "lots", "1e99", "40G"),
    keys.PROFILE: ("1g.10gb", "1g.10gb+me", "9g.1tb", "mig-1g.10gb", "", "1g.5gb"),
    keys.NEEDS: ("hardware-isolation", "throughput", "burst", "everything", ""),
    keys.REWRITE: ("false", "true", "maybe", ""),
    keys.DECISION: ("{}", "[]", "not json", '{"policy":1}', '{"policy":"default"}', "null"),
    "kubevirt.io": ("virt-launcher",),
    keys.KUEUE_QUEUE: ("own", ""),
    keys.KUEUE_MULTIKUEUE_ORIGIN: ("origin",),
    keys.MIRROR_POD: ("hash",),
}
_DEEP: Final = {"@500 deep@": 500, "@5000 deep@": 5000, "@100000 deep@": 100_000}
_OWNERS: Final = (
    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "controller": True},
    {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "r", "controller": True},
    {"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "controller": True},
    {"apiVersion": "x", "kind": "", "name": None, "controller": "yes"},
)


def places(value: Any) -> list[Place]:
    """Returns every place in a document."""
    found: list[Place] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        inside = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, inner in inside:
            found.append((each, key))
            if isinstance(inner, dict | list):
                waiting.append(inner)
    return found


def _copy(value: Any) -> Any:
    """Copies a part of a document; what is deeper than can be copied, from a text that was buried, stands twice."""
    try:
        return deepcopy(value)
    except RecursionError:
        return value


def _replace(rng: Random, holder: Any, key: Any) -> None:
    holder[key] = deepcopy(rng.choice(ODD))


def _requantify(rng: Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[rng.choice([key, *RESOURCES[:4]])] = deepcopy(rng.choice(QUANTITIES))
    else:
        holder[key] = deepcopy(rng.choice(QUANTITIES))


def _remove(_: Random, holder: Any, key: Any) -> None:
    del holder[key]


def _misspell(rng: Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        value = holder[key]
        text = str(key)
        spelling = rng.choice([text.upper(), text.title(), text + " ", text + "\u200b", text[:-1]])
        holder[spelling] = _copy(value)
        if rng.random() < 0.5:
            del holder[key]


def _wrap(rng: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    holder[key] = rng.choice([[value], {"value": value}, {str(key): value}, [value, _copy(value)]])


def _unwrap(_: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    if value and isinstance(value, dict | list):
        holder[key] = next(iter(value.values())) if isinstance(value, dict) else value[0]


def _bury(rng: Random, holder: Any, key: Any) -> None:
    # As deep as it gets, `encoded` writes it: nothing here could walk through it.
    value = holder[key] if rng.random() < 0.5 else rng.choice(list(_DEEP))
    as_list = rng.random() < 0.5
    for _ in range(rng.choice([1, 3, 30])):
        value = [value] if as_list else {"a": value}
    holder[key] = value


def _repeat(rng: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    if isinstance(value, list) and value:
        holder[key] = value + [_copy(rng.choice(value)) for _ in range(rng.choice([1, 2, 20]))]


def _ask(rng: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    if isinstance(value, dict):
        value[rng.choice(RESOURCES)] = deepcopy(rng.choice(QUANTITIES))


def _say(rng: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    if isinstance(value, dict):
        name = rng.choice(list(SAID))
        metadata = value.setdefault("metadata", {})
        if isinstance(metadata, dict):
            said = metadata.setdefault(rng.choice(["labels", "annotations"]), {})
            if isinstance(said, dict):
                said[name] = deepcopy(rng.choice([*SAID[name], *ODD[:4]]))
            if rng.random() < 0.2:
                metadata["ownerReferences"] = [deepcopy(rng.choice(_OWNERS))]


def _apply(_: Random, holder: Any, key: Any) -> None:
    """Has kubectl have applied this very part of the object, so that there is JSON in a text to damage."""
    value = holder[key]
    metadata = value.setdefault("metadata", {}) if isinstance(value, dict) else None
    if isinstance(metadata, dict):
        text = json.dumps({name: each for name, each in value.items() if name != "metadata"})
        said = metadata.setdefault("annotations", {})
        if isinstance(said, dict):
            said["kubectl.kubernetes.io/last-applied-configuration"] = text


def _inside(rng: Random, holder: Any, key: Any) -> None:
    """Damages the JSON within a text: an annotation, a patch of a pod spec."""
    text = holder[key]
    if isinstance(text, str) and text[:1] in {"{", "["}:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        holder[key] = encoded(rng, damaged(rng, value)).decode("utf-8", "replace")


def _graft(rng: Random, holder: Any, key: Any) -> None:
    """Puts another part of the same neighbourhood here."""
    others = list(holder.values()) if isinstance(holder, dict) else holder
    holder[key] = _copy(rng.choice(others))


Damage = Callable[[Random, Any, Any], None]
_DAMAGES: Final[tuple[Damage, ...]] = (
    *(_replace, _replace, _replace, _requantify, _requantify, _remove, _misspell, _wrap, _unwrap, _bury),
    *(_repeat, _ask, _ask, _say, _say, _graft, _apply),
)


def damaged(rng: Random, document: Any, most: int = 4) -> Any:
    """Does up to `most` damages to a document, in place; mostly to what is read of it."""
    for _ in range(rng.randrange(most + 1)):
        found = places(document)
        if not found:
            break
        texts = [
            (holder, key)
            for holder, key in found
            if isinstance(holder[key], str) and holder[key][:1] in {"{", "["}
        ]
        if texts and rng.random() < 0.2:
            _inside(rng, *rng.choice(texts))
            continue
        holder, key = rng.choice(found)
        rng.choice(_DAMAGES)(rng, holder, key)
    return document


def encoded(rng: Random, document: Any) -> bytes:
    """Writes a document in one of the ways that JSON may be written."""
    ascii_only, spaced = rng.random() < 0.5, rng.random() < 0.1
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps(document, ensure_ascii=ascii_only, separators=separators)
    for word, depth in _DEEP.items():
        if word in text:
            opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
            text = text.replace(f'"{word}"', opening * depth + "1" + closing * depth, 3)
    return text.encode("utf-8", "surrogatepass")


_TOKENS: Final = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\x00",
        b"\xff",
        b"\xc3(",
        b"null",
    ),
    *(
        b"true",
        b"-",
        b"1e999",
        b"9" * 400,
        b'"nvidia.com/gpu":"1",',
        b'"spec":{},',
        b'"spec":null,',
        b"[[[[[[[[",
    ),
    *(b'"metadata":{"annotations":{}},', b"\n", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b'"containers":[{}],'),
)


def torn(rng: Random, body: bytes, most: int = 3) -> bytes:
    """Does up to `most` damages to bytes."""
    found = bytearray(body)
    for _ in range(rng.randrange(1, most + 1)):
        start = rng.randrange(len(found) + 1)
        end = min(len(found), start + rng.choice([1, 1, 2, 8, 64]))
        way = rng.randrange(6)
        if way == 0 and start < len(found):
            found[start] ^= 1 << rng.randrange(8)
        elif way == 1:
            del found[start:end]
        elif way == 2:
            found[start:start] = rng.choice(_TOKENS)
        elif way == 3:
            found[start:end] = rng.choice(_TOKENS)
        elif way == 4:
            found[start:start] = found[start:end] * rng.choice([1, 2, 50])
        elif rng.random() < 0.2:
            del found[start:]
    return bytes(found)


def body(rng: Random, review: Any) -> bytes:
    """Returns the bytes of a review, damaged here or there, or as it is."""
    if rng.random() < 0.9:
        damaged(rng, review["request"]["object"])
    if rng.random() < 0.15:
        damaged(rng, review)
    found = encoded(rng, review)
    return torn(rng, found) if rng.random() < 0.1 else found

"""The written language of the table of kinds: where the parts of a pod stand in an object.  Pure.

One line is one pod (or one pod for each place, where it goes through a list or a map):

- `T place`: a PodTemplateSpec; `P place`: a PodSpec, or an object with its fields inline; `I place`: an object
  with the fields of a pod spec inline and `metadata` beside them.
- `C place`: a container or a list of them; `R place`: one ResourceRequirements; `N place(name,quantity)`: an
  object whose fields hold the resource's name and the count.
- `M place`: a resource map that is a total over pods; `G place`: an object of a kind of its own.
- `X place`: known, and never rewritten. `@Kind place`: the paths of that kind's spec, moved to the place.
- `place: P part + C part + …`: one pod whose parts are spread over an object (`.` is the object itself; `M` is
  then the map of one container). `P part from place(field,…)` takes fields that it lacks from that place.

`[]` goes through a list, `.*` through a map, `{a,b}` expands as in a shell. `=name` at the end of a part names
its container as its pod will have it; `*` in it is the part's own `name`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from admission.workloads.json_pointer import escape

_PLACE: Final = r"[\w-]+(?:\[\]|\.(?:\*|[\w-]+))*"
_PART: Final = re.compile(
    rf"(?P<letter>[TPICRNMGX]) (?P<place>{_PLACE}|\.)(?:\((?P<fields>[\w,]+)\))?(?:=(?P<name>[\w*-]+))?"
    rf"(?: from (?P<base>{_PLACE})\((?P<inherited>[\w,]+)\))?"
)
_REFERENCE: Final = re.compile(rf"@(?P<kind>\w+) (?P<place>{_PLACE})")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_SPECS: Final = frozenset("TPI")
_IN_GROUPS: Final = frozenset("PICRNM")

Steps = tuple[str, ...]


class Piece(msgspec.Struct, frozen=True):
    """One part of a pod, from the place of the whole."""

    letter: str
    steps: Steps
    fields: Steps = ()
    name: str = ""
    base: Steps | None = None
    """Where fields are inherited from, from the object's root."""
    inherited: Steps = ()
    """Which."""


class Path(msgspec.Struct, frozen=True):
    """One line of the table, taken apart: `[]` and `*` are steps of their own."""

    steps: Steps
    parts: tuple[Piece, ...]
    grouped: bool = False

    @property
    def letter(self) -> str:
        """The letter of a line with one part."""
        return self.parts[0].letter

    @property
    def fixed(self) -> bool:
        """True when it names one place."""
        return "[]" not in self.steps and "*" not in self.steps


def expand(text: str) -> Iterator[str]:
    """Expands braces as a shell does."""
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    for choice in match[1].split(","):
        yield from expand(text[: match.start()] + choice + text[match.end() :])


def steps_of(place: str) -> Steps:
    """Takes a place apart."""
    return tuple(step for step in re.split(r"\.|(\[\])", place) if step) if place != "." else ()


def parse_paths(paths: Iterable[str]) -> tuple[Path, ...]:
    """Takes written paths apart.

    Raises:
        ValueError: a path is not written as the module says.
    """
    return tuple(path for text in paths for path in _parse(text))


def _parse(text: str) -> Iterator[Path]:
    where, colon, parts = text.partition(": ")
    if colon:
        found = tuple(_part(text, each) for part in parts.split(" + ") for each in expand(part))
        if any(part.letter not in _IN_GROUPS for part in found):
            raise ValueError(f"{text!r} is no path: the parts of one pod are P, I, C, R, N and M")
        if sum(part.letter in _SPECS for part in found) > 1:
            raise ValueError(f"{text!r} is no path: one pod has one P or I")
        for place in expand(where):
            if not re.fullmatch(_PLACE, place):
                raise ValueError(f"{text!r} is no path: {place!r} is no place such as spec.driver")
            yield Path(steps_of(place), found, grouped=True)
        return
    for each in expand(text):
        part = _part(text, each)
        if not part.steps:
            raise ValueError(f"{text!r} is no path: '.' is a place within one pod alone")
        yield Path(part.steps, (msgspec.structs.replace(part, steps=()),))


def _part(text: str, part: str) -> Piece:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{text!r} is no path: write one of the letters T P I C R N M G X and a place, such as T spec.template"
        )
    fields = tuple((match["fields"] or "").split(",")) if match["fields"] else ()
    letter = match["letter"]
    if letter == "N":
        fields = fields or ("name", "quantity")
        if len(fields) != 2:
            raise ValueError(f"{text!r} is no path: N takes two fields, such as (name,quantity)")
    elif letter == "C":
        fields = fields or ("resources",)
    base = steps_of(match["base"]) if match["base"] else None
    inherited = tuple((match["inherited"] or "").split(","))
    return Piece(letter, steps_of(match["place"]), fields, match["name"] or "", base, inherited)


def resolve(paths: Iterable[str], spec_paths: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Replaces every `@Kind place` by that kind's paths, moved; `spec_paths` are written paths by kind.

    Raises:
        ValueError: no such kind.
    """
    found: list[str] = []
    for text in paths:
        match = _REFERENCE.fullmatch(text) if "{" not in text else None
        if not text.startswith("@"):
            found.append(text)
        elif "{" in text:
            found += resolve(expand(text), spec_paths)
        elif match is None or match["kind"] not in spec_paths:
            raise ValueError(f"{text!r} names no kind of the table")
        else:
            found += (moved(path, match["place"]) for path in spec_paths[match["kind"]])
    return tuple(found)


def moved(text: str, place: str) -> str:
    """Moves the path of a spec to another place."""
    return re.sub(r"(?:(?<=^)|(?<=^[A-Z] )|(?<= from ))spec\b", place, text)


def places(value: Any, steps: Steps, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (JSON pointer, value) of every place that a path names in a document; those in a map by their keys, in
    whatever order they came."""
    if not steps:
        yield pointer, value
        return
    step, rest = steps[0], steps[1:]
    if step == "[]":
        for index, each in enumerate(value if isinstance(value, list) else ()):
            yield from places(each, rest, f"{pointer}/{index}")
    elif step == "*":
        for key in sorted(value) if isinstance(value, dict) else ():
            yield from places(value[key], rest, f"{pointer}/{escape(key)}")
    elif isinstance(value, dict) and step in value:
        yield from places(value[step], rest, f"{pointer}/{step}")

"""YAML as Kubernetes' own tools read it: one meaning of a text, whoever reads it.

kubectl turns YAML into JSON with go.yaml.in/yaml/v2 (sigs.k8s.io/yaml). It differs from PyYAML in what a plain word
is: `1e3`, `0o17` and `y` are no text there, `1:30`, `2026-01-01` and `=` are (resolve.go of that module). So what is
text for it is text here, and what would be no text for it is written in quotes. `1e3` and `y` are read as text all the
same: what stands so was meant as a quantity or a word, and no field of Kubernetes wants such a number.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml

_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_BOOL: Final = "tag:yaml.org,2002:bool"
_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"
_JSON: Final = frozenset(
    {_INT, _FLOAT, _BOOL, _TEXT, *(f"tag:yaml.org,2002:{kind}" for kind in ("null", "map", "seq"))}
)
_OTHERS: Final = (_INT, _FLOAT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_NUMBERS: Final = {
    _INT: re.compile(
        r"[-+]?(?:0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]*|[1-9][0-9_]*)\Z"
    ),
    _FLOAT: re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+][0-9]+)?\Z"),
}
_FOR_GO: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_FIRST: Final = "-+.0123456789"

# No object of Kubernetes comes near these. An alias may stand for as much as the whole file, not for a hundred of it.
_DEEPEST: Final = 200
_MOST: Final = 1_000_000
_BRACKETS: Final = re.compile(r"[\[\]{}]")
_INDENTED: Final = re.compile(r"^[ \t?:-]{5000}", re.MULTILINE)


class YamlError(ValueError):
    """A text that Kubernetes would not take: `problem` in words, `line` (from 1) where it is known."""

    def __init__(self, problem: str, line: int | None = None, document: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.document = document
        """The document, counted from 1, when the text is YAML and the document is what is wrong."""


class _Loader(yaml.CSafeLoader):
    """Timestamps and times of day stay text."""


class _Dumper(yaml.CSafeDumper):
    """Without aliases: two equal objects are two objects."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  the signature is PyYAML's
        """Says that nothing is written as an alias."""
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERS]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_FIRST))
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_FIRST))
_Dumper.add_implicit_resolver(_FLOAT, _FOR_GO, list(_FIRST))
_Dumper.add_implicit_resolver(_BOOL, re.compile(r"[yYnN]\Z"), list("yYnN"))


def dump(documents: Iterable[Any]) -> str:
    """Returns documents as one YAML stream."""
    return yaml.dump_all(list(documents), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def load(text: str) -> list[Any]:
    """Returns the documents of a text that are not empty.

    Raises:
        YamlError: it is not YAML, or says something twice, or is nested or expanded beyond reason.
    """
    try:
        _not_too_deep(text)
        return list(_documents(text)) if (found := _json(text)) is None else found
    except UnicodeEncodeError:
        raise YamlError("holds half of a character; write it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise YamlError(problem, mark.line + 1 if mark else None) from None


def load_one(text: str) -> Any:
    """Returns the one document of a text, such as a file in a ConfigMap; None when it is empty.

    Raises:
        YamlError: as `load`, or there are more documents.
    """
    documents = load(text)
    if len(documents) > 1:
        raise YamlError(f"holds {len(documents)} documents; write one")
    return documents[0] if documents else None


def _json(text: str) -> list[Any] | None:
    """The objects of a text that is JSON, one after the other, as kubectl takes them; None for any other text.

    Several times as quick as reading it as YAML, which JSON is but for emoji. What is wrong with it is left to that.
    """
    found, at = [], len(text) - len(text.lstrip())
    if not text.startswith("{", at):
        return None
    try:
        while at < len(text):
            value, at = _DECODER.raw_decode(text, at)
            found.append(value)
            while at < len(text) and text[at].isspace():
                at += 1
        if "\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half of an emoji is no text
    except ValueError:
        return None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def _documents(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    number = 1
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101  there was one
            try:
                size = _size(node, 0, {})
            except RecursionError:
                raise YamlError("holds itself; write out what the alias means", document=number) from None
            if size > _MOST and size > len(text):
                raise YamlError(
                    "its aliases stand for more than a million values; write them out", document=number
                )
            try:
                value = loader.construct_document(node)
            except ValueError as error:
                raise YamlError(
                    f"a value is not what its tag says: {error}; correct it", document=number
                ) from None
            if value is not None:
                try:
                    yield _unshared(value) if "&" in text else value
                except RecursionError:
                    raise YamlError(
                        "its aliases are nested too deeply; write them out", document=number
                    ) from None
                number += 1
    finally:
        loader.dispose()


def _size(node: yaml.Node, depth: int, known: dict[int, int]) -> int:
    """How many values a node stands for; makes keys text.

    Complains of keys that stand twice, of what is nested too deeply, and of what JSON has no word for.
    """
    if node.tag not in _JSON:
        raise YamlError(f"Kubernetes reads no values of the tag {node.tag}", _line(node))
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (found := known.get(id(node))) is not None:
        if not found:
            raise RecursionError
        return found
    if depth > _DEEPEST:
        raise YamlError(f"is nested more than {_DEEPEST} deep", _line(node))
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        size, keys = 1, set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                _worded(key)
                if key.value in keys:
                    raise YamlError(f"the key {key.value} stands twice", _line(key))
                keys.add(key.value)
            size += _size(value, depth + 1, known)
    else:
        size = 1 + sum(_size(each, depth + 1, known) for each in node.value)
    known[id(node)] = size
    return size


def _line(place: yaml.Node | yaml.Event) -> int | None:
    return place.start_mark.line + 1 if place.start_mark else None


def _worded(key: yaml.ScalarNode) -> None:
    """Makes a key text, as JSON has it: `on` is the key "true" for Go."""
    if key.tag == _BOOL:
        key.value = "true" if key.value.lower() in {"true", "yes", "on"} else "false"
    key.tag = _TEXT


def _not_too_deep(text: str) -> None:
    """Complains before libyaml's recursion runs out of stack, which no exception tells of."""
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > _DEEPEST:  # or there are brackets within text
            break
    else:
        if not _INDENTED.search(text):
            return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise YamlError(f"is nested more than {_DEEPEST} deep", _line(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _unshared(value: Any) -> Any:
    """Copies what YAML aliases share: two places that were written alike are patched one by one."""
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_unshared(each) for each in value]
    return value

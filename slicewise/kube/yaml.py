"""YAML as Kubernetes' own tools read it: one meaning of a text, whoever reads it.

kubectl turns YAML into JSON with go.yaml.in/yaml/v2 (sigs.k8s.io/yaml). It differs from PyYAML in what a plain word
is: `1e3`, `0o17` and `y` are no text there, `1:30`, `2026-01-01` and `=` are (resolve.go of that module); and in a
merge (`<<`) that stands after a key: it has the last word (decode.go). So what is text for it is text here, and what
would be no text for it is written in quotes.
"""

import json
import re
from collections.abc import Iterable, Iterator
from math import isinf
from typing import Any, Final

import yaml

_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_BOOL: Final = "tag:yaml.org,2002:bool"
_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"
_JSON: Final = frozenset(
    {_INT, _FLOAT, _BOOL, _NULL, _TEXT, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
)
_OTHERS: Final = (_INT, _FLOAT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_WORDS: Final = {
    _INT: re.compile(
        r"[-+]?(?:0[bB]_*[01][01_]*|0[oO]_*[0-7][0-7_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]*|[1-9][0-9_]*)\Z"
    ),
    _FLOAT: re.compile(
        r"(?:\.[0-9]+|[-+]\._*[0-9][0-9_]*|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?_*[0-9][0-9_]*)?\Z"
        r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    _BOOL: re.compile(r"[yYnN]\Z"),
}
_FIRST: Final = {_INT: "-+0123456789", _FLOAT: "-+.0123456789", _BOOL: "yYnN"}
_YES: Final = frozenset({"true", "yes", "on", "y"})
_BASES: Final = {"0b": 2, "0o": 8, "0x": 16}

# No object of Kubernetes comes near these. An alias may stand for as much as the whole file, not for a hundred of it.
_DEEPEST: Final = 200
_MOST: Final = 1_000_000
_BRACKETS: Final = re.compile(r"[\[\]{}]")
_LARGEST: Final = 1e21
"""From here on Go writes a float with its exponent."""
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
for _tag, _pattern in _WORDS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_FIRST[_tag]))
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_FIRST[_tag]))


def _number(word: str) -> int | float:
    """Returns a float as JSON has it: one that is whole is written like an integer."""
    value = float(word)
    return int(value) if value.is_integer() and abs(value) < _LARGEST else value


def _value(node: yaml.ScalarNode) -> Any:
    """Returns what a number or a yes or no means; what is too large for a number is text.

    Raises:
        ValueError: it is none.
    """
    word = node.value.replace("_", "").lower()
    if node.tag == _BOOL:
        return word in _YES
    if node.tag == _FLOAT:
        return node.value if isinf(float(word)) else _number(word)
    sign, digits = word[: len(word) - len(word.lstrip("-+"))], word.lstrip("-+")
    base = _BASES.get(digits[:2], 8 if digits.startswith("0") else 10)
    return int(sign + digits, base)


def _constructed(_: _Loader, node: yaml.ScalarNode) -> Any:
    return _value(node)


for _tag in _WORDS:
    _Loader.add_constructor(_tag, _constructed)


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


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number, parse_float=_number)


def _documents(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    number = 1
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101  there was one
            merging: list[yaml.MappingNode] = []
            try:
                size = _size(node, 0, {}, merging)
            except RecursionError:
                raise YamlError("holds itself; write out what the alias means", document=number) from None
            if size > _MOST and size > len(text):
                raise YamlError(
                    "its aliases stand for more than a million values; write them out", document=number
                )
            for each in merging:
                _merge(each)
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


def _size(node: yaml.Node, depth: int, known: dict[int, int], merging: list[yaml.MappingNode]) -> int:
    """How many values a node stands for; makes keys text, and lists maps into which others are merged, innermost first.

    Complains of keys that stand twice, of what is nested too deeply, and of what JSON has no word for.
    """
    if isinstance(node, yaml.ScalarNode):
        if node.tag != _TEXT:
            _checked(node)
        return 1
    if node.tag not in _JSON:
        raise _tagged(node)
    if (found := known.get(id(node))) is not None:
        if not found:
            raise RecursionError
        return found
    if depth > _DEEPEST:
        raise YamlError(f"is nested more than {_DEEPEST} deep", _line(node))
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        size, keys, merges = 1, set(), False
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("JSON has no key but text; write one", _line(key))
            size += _size(value, depth + 1, known, merging)
            if key.tag == _MERGE:
                merges = True
                continue
            if key.tag != _TEXT:
                _worded(key)
            if key.value in keys:
                raise YamlError(f"the key {key.value} stands twice", _line(key))
            keys.add(key.value)
        if merges:
            merging.append(node)
    else:
        size = 1 + sum(_size(each, depth + 1, known, merging) for each in node.value)
    known[id(node)] = size
    return size


def _line(place: yaml.Node | yaml.Event) -> int | None:
    return place.start_mark.line + 1 if place.start_mark else None


def _tagged(node: yaml.Node) -> YamlError:
    return YamlError(f"Kubernetes reads no values of the tag {node.tag}", _line(node))


def _checked(node: yaml.ScalarNode) -> None:
    """Complains of a value that JSON has no word for."""
    if node.tag == _MERGE:
        node.tag = _TEXT  # it is no key
    if node.tag not in _JSON:
        raise _tagged(node)
    if node.tag == _FLOAT and node.value.lower().endswith((".inf", ".nan")):
        raise YamlError(f"JSON has no number {node.value}; put it in quotes if it is text", _line(node))


def _worded(key: yaml.ScalarNode) -> None:
    """Makes a key text, as JSON has it: `on` is the key "true" for Go, and `0x10` the key "16"."""
    _checked(key)
    if key.tag == _NULL:
        raise YamlError(f"JSON has no key {key.value or 'null'}; put it in quotes", _line(key))
    try:
        key.value = json.dumps(_value(key))
    except ValueError as error:
        raise YamlError(f"a key is not what its tag says: {error}; correct it", _line(key)) from None
    key.tag = _TEXT


def _merge(node: yaml.MappingNode) -> None:
    """Puts what is merged where its `<<` stands: of one key the last has the word, and of several maps the first."""
    found: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if key.tag != _MERGE:
            found[key.value] = (key, value)
        elif not all(isinstance(each, yaml.MappingNode) for each in merged):
            raise YamlError("merges what is no map; give << a map, or a list of them", _line(key))
        else:
            found |= {k.value: (k, v) for each in reversed(merged) for k, v in each.value}
    node.value = list(found.values())


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

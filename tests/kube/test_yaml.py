"""YAML is read and written as Kubernetes' own tools read it, and what they would not take is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from slicewise.kube import yaml as kube_yaml
from slicewise.kube.yaml import YamlError
from tests.manifests.tools import tool

# What `sigs.k8s.io/yaml` makes of plain words (go.yaml.in/yaml/v2, resolve.go).
PLAIN: dict[str, Any] = {
    "1": 1,
    "-12": -12,
    "1_000": 1000,
    "0777": 511,
    "0o17": 15,
    "0x1F": 31,
    "0b11": 3,
    "1.5e+3": 1500.0,
    ".5": 0.5,
    "1.": 1.0,
    "true": True,
    "off": False,
    "~": None,
    "2026-01-01": "2026-01-01",
    "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z",
    "8080:53": "8080:53",
    "=": "=",
    "0x_": "0x_",
    "1e5x": "1e5x",
    "16Gi": "16Gi",
}


@pytest.mark.parametrize(("word", "value"), PLAIN.items(), ids=PLAIN)
def test_a_plain_word_means_what_it_means_for_kubectl(word: str, value: Any) -> None:
    assert kube_yaml.load(f"a: {word}\n") == [{"a": value}]


@pytest.mark.parametrize(
    "word", [*PLAIN, "y", "N", "yes", "12e45678", "null", "1_0", "", " a", "<<", "é\u2028"]
)
def test_text_is_written_so_that_every_reader_takes_it_for_text(word: str) -> None:
    written = kube_yaml.dump([{"a": word}])
    assert kube_yaml.load(written) == [{"a": word}]
    assert yaml.safe_load(written) == {"a": word}


@pytest.mark.parametrize("word", ["1e3", "12e45678", "0o17", "y", "N"])
def test_text_that_only_go_takes_for_something_else_stands_in_quotes(word: str) -> None:
    assert kube_yaml.dump([{"a": word}]) == f"a: '{word}'\n"


# Where readers of YAML differ: each is asked of a real kubectl.
WORDS: tuple[str, ...] = (
    *PLAIN,
    *(
        "y",
        "Y",
        "n",
        "N",
        "yes",
        "YES",
        "no",
        "on",
        "On",
        "off",
        "oN",
        "yEs",
        "True",
        "TRUE",
        "tRue",
        "Null",
        "nUll",
    ),
    *(
        "1e3",
        "1E3",
        "1e+3",
        "1.5e3",
        "-.5e3",
        "+.5",
        "1e400",
        "1_0e3",
        "1e0_3",
        "1_000.5",
        "5.",
        "1.0",
        "1.10",
        "1e",
    ),
    *(
        "0X10",
        "0O10",
        "0B11",
        "-0x10",
        "+010",
        "-010",
        "08",
        "09.5",
        "00",
        "-0",
        "0x",
        "0b",
        "0o",
        "0x1_0",
        "_1",
        "1__0",
    ),
    *(
        "1:30",
        "1:30:15",
        "190:20:30",
        "2026-01-01 10:00:00",
        "100m",
        "0.1",
        "1,000",
        "inf",
        "nan",
        "e3",
        ".",
        "-",
        "+1",
    ),
    *(
        "!!str 1",
        "!!str yes",
        "!!int 1",
        "!!float 1",
        "!!bool yes",
        "!!null ''",
        "''",
        "'1'",
        '"\\x41"',
        "a#b",
        "a #b",
    ),
)
MAPS: tuple[str, ...] = (
    "{y: 1, n: 2}",
    "{on: a, no: b, 1: c, 'off': e}",
    "{1.5: 1, 1e3: 2, 1.0: 3, 010: 4, 0x10: 5, 2_000: 6, 2026-01-01: 7, '1e4': 8}",
    "{a: &a {x: 1, z: 2}, b: {<<: *a, x: 3}, c: {x: 3, <<: *a}, d: {x: 3, <<: *a, z: 4}}",
    "{a: &a {x: 1}, b: &b {x: 2, z: 3}, c: {<<: [*a, *b]}, d: {<<: *b, y: 4}}",
    "{a: &a {x: 1}, b: &b {<<: *a, z: 3}, c: {x: 2, <<: *b}, d: {<<: {q: 1}}, e: {'<<': {q: 1}}, f: <<}",
    "{a: [1, y, 1e3], b:\t1, c: 'a\n\n    b'}",
    "\n  a:\r\n  - - x\r\n    - y\r\n  b: |\r\n    x\r\n    z\r\n  ? c\r\n  : >-\r\n    x\r\n    z",
)


def test_yaml_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    values = [*(f"{{a: {word}}}" if "#" not in word else f"\n  a: {word}" for word in WORDS), *MAPS]
    documents = [
        f"apiVersion: example.org/v1\nkind: Farm\nmetadata: {{name: x}}\nspec: {each}\n" for each in values
    ]
    text = "\ufeff---\n---\n# nothing\n--- # more\n" + "---\n".join(documents) + "---\n"
    (tmp_path / "farms.yaml").write_text(text, newline="")
    command = [
        tool("kubectl"),
        "annotate",
        "--local",
        "--filename",
        "farms.yaml",
        "--output",
        "json",
        "read=yes",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = [each["spec"] for each in kube_yaml.load(done.stdout)]
    ours = [each["spec"] for each in kube_yaml.load(text)]
    written = [[json.dumps(each, sort_keys=True) for each in specs] for specs in (ours, theirs)]
    assert dict(zip(values, written[0], strict=True)) == dict(zip(values, written[1], strict=True))


def test_a_merge_may_say_again_what_it_merges() -> None:
    text = "{a: &a {x: 1}, b: {<<: *a, x: 2}, c: {d: {<<: [*a, *a]}}}"
    assert kube_yaml.load(text) == [{"a": {"x": 1}, "b": {"x": 2}, "c": {"d": {"x": 1}}}]


def _laughing() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines)


JSON: dict[str, tuple[str, list[Any]]] = {
    "one object": ('\n{"a": {"b": [1, 2.5, true, null, "x"]}}\n', [{"a": {"b": [1, 2.5, True, None, "x"]}}]),
    "one after the other": ('{"a": 1}\n{"a": 2} {"a": 3}', [{"a": 1}, {"a": 2}, {"a": 3}]),
    "an emoji in two halves": (r'{"a": "\ud83d\ude00"}', [{"a": "\U0001f600"}]),
    "indented with tabs": ('{\n\t"a": 1\n}', [{"a": 1}]),
    "and then YAML": ('{"a": 1}\n---\nb: 2\n', [{"a": 1}, {"b": 2}]),
    "YAML in braces": ("{a: 1, b: [x]}", [{"a": 1, "b": ["x"]}]),
    "a number of Go": ('{"a": 1e3}', [{"a": 1000.0}]),
}


@pytest.mark.parametrize(("text", "values"), JSON.values(), ids=JSON)
def test_json_is_read_as_kubectl_reads_it(text: str, values: list[Any]) -> None:
    assert kube_yaml.load(text) == values


REFUSED: dict[str, tuple[str, str]] = {
    "a key twice": ("a: {b: 1, b: 2}", "the key b stands twice"),
    "one key in two words": ("{on: 1, true: 2}", "the key true stands twice"),
    "one key as two numbers": ("{0x10: 1, 16: 2}", "the key 16 stands twice"),
    "a key that is no text": ("{~: 1}", "JSON has no key ~; put it in quotes"),
    "a key that is a list": ("{[a]: 1}", "JSON has no key but text; write one"),
    "a key that is no number": ("{!!int a: 1}", "a key is not what its tag says: "),
    "no number of JSON": ("a: -.inf", "JSON has no number -.inf; put it in quotes if it is text"),
    "a merge of no map": ("{a: 1, <<: b}", "merges what is no map; give << a map, or a list of them"),
    "a key twice, in JSON": ('{"a": 1,\n"a": 2}', "the key a stands twice"),
    "half of an emoji": (r'{"a": "\ud83d"}', ""),
    "nested deeply": ("a: " + "[" * 201 + "]" * 201, "is nested more than 200 deep"),
    "nested so deeply that libyaml would crash": (
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        "is nested more than 200 deep",
    ),
    "lists in lists on one line": ("- " * 100_000 + "a", "is nested more than 200 deep"),
    "aliases of aliases": (_laughing(), "its aliases stand for more than a million values; write them out"),
    "an alias within itself": ("a: &a [*a]", "holds itself; write out what the alias means"),
    "a long chain of aliases": (
        "a: &a0 []\n" + "".join(f"x{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 1000)),
        "its aliases are nested too deeply; write them out",
    ),
    "bytes": ("a: !!binary YQ==", "Kubernetes reads no values of the tag tag:yaml.org,2002:binary"),
    "a set": ("a: !!set {b}", "Kubernetes reads no values of the tag tag:yaml.org,2002:set"),
    "no number": ("a: !!int b", "a value is not what its tag says: "),
    "a number of 5000 digits": ("a: " + "1" * 5000, "a value is not what its tag says: "),
    "a tag that nobody knows": ("a: !b c", "Kubernetes reads no values of the tag !b"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_kubernetes_would_not_take_is_refused(text: str, problem: str) -> None:
    with pytest.raises(YamlError) as caught:
        kube_yaml.load(text)
    assert caught.value.problem.startswith(problem)


def test_many_brackets_in_text_are_no_nesting() -> None:
    assert kube_yaml.load("a: '" + "[" * 3000 + "'") == [{"a": "[" * 3000}]

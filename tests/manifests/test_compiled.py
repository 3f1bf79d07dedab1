"""Which modules are compiled in the image: those of functions; never one with a struct, whose keywords mypyc drops."""

from pathlib import Path

import pytest

import setup
from release import compiled


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    folder = tmp_path / "admission" / "decision"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("source", "compiled"),
    [
        ("def f() -> int:\n    return 1\n", True),
        ("class State:\n    pass\n", True),
        ("import msgspec\nclass Change(msgspec.Struct, frozen=True):\n    name: str\n", False),
        ("from enum import StrEnum\nclass Verdict(StrEnum):\n    LEFT = 'left'\n", False),
        ("class Refused(ValueError):\n    pass\n", False),
    ],
)
def test_a_module_of_functions_and_plain_classes_is_compiled(
    source: str, *, compiled: bool, tree: Path
) -> None:
    (tree / "decide.py").write_text(source)
    (tree / "__init__.py").write_text("")
    assert setup.compiled_modules() == ["admission/decision/decide.py"] * compiled


def test_what_every_review_goes_through_is_compiled() -> None:
    steps = {"exempt", "gate", "mutate", "new_decision", "render", "desired", "difference", "draft"}
    assert {f"admission/mutation/{step}.py" for step in steps} <= set(setup.compiled_modules())


@pytest.mark.parametrize("what", ["setup.py", "pyproject.toml", "admission/a.py", "mypy"])
def test_it_is_compiled_anew_when_what_it_is_made_of_or_with_changes(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    (tmp_path / "admission").mkdir()
    for name in ("setup.py", "pyproject.toml", "admission/a.py"):
        (tmp_path / name).write_text("")
    before = compiled._key()
    assert compiled._key() == before
    if what == "mypy":
        monkeypatch.setattr(compiled, "version", lambda _: "1000.0")
    else:
        (tmp_path / what).write_text("x = 1\n")
    assert compiled._key() != before

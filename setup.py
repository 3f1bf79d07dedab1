"""Builds Slicewise in pure Python, or with what decides of a review compiled: SLICEWISE_COMPILED=1 (docs/performance.md)."""

import ast
import os
from pathlib import Path

from setuptools import setup

DECIDING = ("admission/decision", "admission/engines", "admission/mutation", "admission/workloads")


def is_compiled(module: Path) -> bool:
    """True for a module of functions and plain classes: mypyc takes no keyword of a class statement, such as `frozen`
    of a struct, and does not say so."""
    classes = [node for node in ast.parse(module.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return module.name != "__init__.py" and not any(each.bases or each.keywords for each in classes)


def compiled_modules(root: Path) -> list[str]:
    """Returns the files to compile, from the root of the tree."""
    found = (module for folder in DECIDING for module in (root / folder).rglob("*.py") if is_compiled(module))
    return sorted(str(module.relative_to(root)) for module in found)


if __name__ == "__main__":
    if os.environ.get("SLICEWISE_COMPILED") == "1":
        from mypyc.build import mypycify

        options = ["--config-file=", "--ignore-missing-imports"]
        extensions = mypycify([*options, *compiled_modules(Path(__file__).parent)], debug_level="0")
        setup(ext_modules=extensions)
    else:
        setup()

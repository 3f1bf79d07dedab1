"""Builds Slicewise in pure Python, or, with SLICEWISE_COMPILED=1, with what decides of a review compiled by mypyc.

The image has it compiled, wheels have not (docs/adr/0006-what-decides-is-compiled.md).
"""

import ast
import os
from pathlib import Path
from typing import Final

from setuptools import setup

ROOT: Final = Path(__file__).parent
DECIDING: Final = (
    "admission/decision/**/*.py",
    "admission/engines/**/*.py",
    "admission/mutation/**/*.py",
    "admission/workloads/**/*.py",
    "slicewise/api/keys.py",
)
TABLE: Final = "builtin_kinds.py"
"""Data, which is no faster for being compiled."""


def compiled_modules() -> list[str]:
    """Returns the files to compile, as paths from the root of the tree."""
    found = (module for pattern in DECIDING for module in ROOT.glob(pattern) if _decides(module))
    return sorted(str(module.relative_to(ROOT)) for module in found)


def _decides(module: Path) -> bool:
    """True for a module of functions and plain classes.

    mypyc leaves out the keywords of a class statement, such as `frozen` of a struct, and says nothing.
    """
    classes = [node for node in ast.parse(module.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    is_data = module.name in {"__init__.py", TABLE} or any(each.bases or each.keywords for each in classes)
    return not is_data


def main() -> None:
    """Builds."""
    if os.environ.get("SLICEWISE_COMPILED") != "1":
        setup()
        return
    from mypyc.build import mypycify  # noqa: PLC0415  the build of a wheel has none

    mypy = ["--config-file=", "--ignore-missing-imports"]
    setup(ext_modules=mypycify([*mypy, *compiled_modules()], debug_level="0"))


if __name__ == "__main__":
    main()

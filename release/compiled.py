"""What decides of a review compiled, as in the image, and its tests against that: `python -m release.compiled`.

It takes a C compiler and Python's headers. Where they are not, it says so and does nothing: the image compiles too.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from setup import ROOT, compiled_modules

TREE: Final = ROOT / "build" / "compiled"
"""A copy of the packages, with what is compiled beside its source."""
_PACKAGES: Final = ("slicewise", "admission", "queue_sync")
_TESTS: Final = ("tests/admission", "tests/admission_server", "tests/fuzz")


class CompileError(Exception):
    """It cannot be compiled; the message is the end of what the compiler said."""


def why_not() -> str:
    """Returns why nothing can be compiled here; "" when it can."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if headers.exists() and any(map(shutil.which, ("cc", "gcc", "clang"))):
        return ""
    return "it takes a C compiler and Python's headers (Debian: gcc, libc6-dev, python3-dev)"


def environment(tree: Path = TREE) -> dict[str, str]:
    """Returns the environment in which Python takes the packages of a tree, and all else of this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(ROOT))), "PYTHONSAFEPATH": "1"}


def build() -> Path:
    """Returns the compiled tree, which is made anew when a source has changed.

    Raises:
        CompileError: it cannot be compiled.
    """
    stamp, key = TREE / "key", _key()
    if stamp.exists() and stamp.read_text("ascii") == key:
        return TREE
    shutil.rmtree(TREE, ignore_errors=True)
    for name in _PACKAGES:
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, TREE)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(
        command,
        cwd=TREE,
        env={**os.environ, "SLICEWISE_COMPILED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompileError((done.stdout + done.stderr).strip()[-4000:])
    missing = [
        name for name in compiled_modules() if not list((TREE / name).parent.glob(f"{Path(name).stem}.*.so"))
    ]
    if missing:
        raise CompileError(f"not compiled: {', '.join(missing)}")
    stamp.write_text(key, "ascii")
    return TREE


def _key() -> str:
    digest = sha256(f"{sys.version} mypy {version('mypy')}".encode())
    sources = [
        *(path for name in _PACKAGES for path in sorted((ROOT / name).rglob("*.py"))),
        ROOT / "setup.py",
        ROOT / "pyproject.toml",
    ]
    for path in sources:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Compiles, and runs the tests of the webhook against it; `arguments` are pytest's."""
    if reason := why_not():
        print(f"compiled: not run here: {reason}")
        return 0
    try:
        tree = build()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    for command in (
        [
            sys.executable,
            "-c",
            "from admission.mutation import mutate; assert mutate.__file__.endswith('.so')",
        ],
        [sys.executable, "-m", "pytest", "-q", *arguments, *_TESTS],
    ):
        if status := subprocess.run(command, cwd=ROOT, env=environment(tree), check=False).returncode:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

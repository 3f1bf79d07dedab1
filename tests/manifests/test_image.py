"""The image: what it is made of exists and is pinned, and who it runs as is a number."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text().splitlines()


def test_what_is_copied_exists_and_is_let_through() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_the_base_is_pinned_by_digest() -> None:
    (base,) = [line.removeprefix("ARG PYTHON=") for line in LINES if line.startswith("ARG PYTHON=")]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim@sha256:[0-9a-f]{64}", base)
    assert {line.split()[1] for line in LINES if line.startswith("FROM ")} == {"${PYTHON}"}


def test_every_requirement_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements/run.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if re.match(r"[A-Za-z]", line):
            assert re.match(r"\S+==\S+( ; .*?)?\s+--hash=sha256:", line), line


def test_the_user_is_a_number() -> None:
    (user,) = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


# In a process of its own, since tests import more; what runs when it is imported is left out.
EVERY_MODULE = """
import importlib, pkgutil, sys
for name in ("slicewise", "admission", "queue_sync"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*(name for name in sys.modules if name.startswith("kubernetes.")))
"""


def test_what_the_image_leaves_out_of_the_official_client_is_imported_by_nobody() -> None:
    left_out = ("kubernetes.aio", "kubernetes.client.models.", "kubernetes.client.api.")
    command = [sys.executable, "-c", EVERY_MODULE]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert "kubernetes.client.configuration" in found
    assert [name for name in found if name.startswith(left_out)] == []

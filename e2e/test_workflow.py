"""The workflow as GitHub would read it: actionlint, built once into the cache, finds nothing wrong in it."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from e2e.harness.binaries import ACTIONLINT, ensure

ROOT: Final = Path(__file__).parents[1]
# The first test that asks waits for the build.
pytestmark = pytest.mark.timeout(600)


def _complaints(path: Path) -> str:
    program = ensure(ACTIONLINT).program("actionlint")
    answer = subprocess.run(
        [program, "-oneline", path], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode in {0, 1}, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("name", ["ci", "release"])
def test_the_workflow_has_no_fault(name: str) -> None:
    assert _complaints(ROOT / f".github/workflows/{name}.yaml") == ""


def test_a_fault_is_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (ROOT / ".github/workflows/ci.yaml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("matrix.python }}", "matrix.pyton }}", 1), encoding="utf-8")
    assert 'property "pyton" is not defined' in _complaints(wrong)

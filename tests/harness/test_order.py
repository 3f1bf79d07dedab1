"""How the end-to-end tests are shared out among workers."""

from pathlib import Path

import pytest
from xdist import newhooks
from xdist.scheduler import LoadScopeScheduling

from e2e import conftest

FILES = {path.stem for path in Path(conftest.__file__).parent.glob("test_*.py")}


def test_every_file_that_the_order_names_is_there_once() -> None:
    listed = [f"test_{file}" for line in conftest.ORDER for file in line]
    assert set(listed) <= FILES
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("line", conftest.ORDER, ids="-".join)
def test_the_files_of_a_line_are_for_one_worker_and_no_others_are(line: tuple[str, ...]) -> None:
    scopes = {file: conftest.worker_scope(f"e2e/{file}.py::test_it[a::b]") for file in FILES}
    mine = {f"test_{file}" for file in line}
    assert {file for file in FILES if scopes[file] == scopes[f"test_{line[0]}"]} == mine


@pytest.mark.parametrize("hook", ["pytest_xdist_make_scheduler", "pytest_xdist_auto_num_workers"])
def test_xdist_has_the_hooks_that_are_used(hook: str) -> None:
    """They are optional, so that the tests run without xdist; one of another name would never be called."""
    assert callable(getattr(newhooks, hook))
    assert callable(getattr(conftest, hook))


def test_xdist_asks_a_scheduler_for_the_scope_of_a_test() -> None:
    assert callable(LoadScopeScheduling._split_scope)

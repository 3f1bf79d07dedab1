"""Every fault of docs/reliability.md once, on a control plane of its own; `make chaos` plays for longer."""

from __future__ import annotations

import pytest

from e2e.chaos.run import run

SEED = 12


@pytest.mark.usefixtures("programs")
def test_no_promise_is_broken_whatever_fails() -> None:
    story: list[str] = []
    figures = run(SEED, 0, story.append, rounds=100)
    assert not figures.broken, "\n".join([*story, str(figures)])
    assert figures.steady

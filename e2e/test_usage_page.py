"""The page of `slicewise report` in real Chromium: light, dark, and as wide as a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.harness import chromium
from e2e.harness.chromium import VIEWS, View

DARK = (15, 20, 25)
LIGHT = (255, 255, 255)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chromium.example(tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.picture)
def test_it_is_no_wider_than_the_window_and_follows_the_colour_scheme(
    page: Path, view: View, tmp_path: Path
) -> None:
    assert chromium.size(page, view)[0] == view.width
    chromium.draw(page, view, tmp_path / "page.png")
    assert chromium.corner(tmp_path / "page.png") == (DARK if view.dark else LIGHT)

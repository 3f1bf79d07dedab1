"""The page of `slicewise report` in real Chromium: light, dark, and as wide as a phone.

`SLICEWISE_PICTURES=docs` has the pictures of docs/utilization.md made anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from e2e.harness.browser import Tab, chromium
from tests.docs import measured
from tests.docs.pages import page

DARK: Final = "rgb(15, 20, 25)"
LIGHT: Final = "rgb(255, 255, 255)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page for the example cluster and its use, as docs/utilization.md has it made."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "cluster.yaml").write_text(page("example.md").files()["cluster.yaml"], encoding="utf-8")
    command = ("report", "--usage", str(measured.SHIPPED), "--snapshot", "cluster.yaml", "-o", "html")
    with (folder / "page.html").open("w", encoding="utf-8") as file:
        subprocess.run(
            [sys.executable, "-m", "slicewise", *command], stdout=file, cwd=folder, check=True, timeout=60
        )
    return folder / "page.html"


@pytest.mark.parametrize(
    ("picture", "width", "dark"),
    [
        ("utilization.png", 900, False),
        ("utilization-dark.png", 900, True),
        ("utilization-phone.png", 390, False),
    ],
)
async def test_it_is_no_wider_than_the_window_and_follows_the_colour_scheme(
    report: Path, tmp_path: Path, picture: str, width: int, *, dark: bool
) -> None:
    async with chromium() as tab:
        await tab.look(width=width, dark=dark)
        await tab.open(report.as_uri())
        await tab.until("document.readyState === 'complete' && document.body.innerText.includes('GPU-hours')")
        assert await tab.run("document.documentElement.scrollWidth") == width
        assert await tab.run("getComputedStyle(document.body).backgroundColor") == (DARK if dark else LIGHT)
        assert await tab.judged() == []
        assert tab.problems == []
        assert await fetched(tab) == []
        height = await tab.run("document.documentElement.scrollHeight")
        await tab.look(width=width, height=height, dark=dark)
        folder = Path(os.environ.get("SLICEWISE_PICTURES") or tmp_path)
        (folder / picture).write_bytes(await tab.picture())


async def fetched(tab: Tab) -> list[str]:
    """What the page asked for besides itself."""
    return [each for each in tab.requests if not each.startswith(("file:", "data:"))]

"""Pages as Chromium shows them: in light, in dark and at the width of a phone.

`python -m e2e.harness.chromium` draws the pictures of docs/utilization.md anew.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zlib
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from e2e.harness.browser import chromium_program
from tests.docs import measured
from tests.docs.pages import ROOT, page


class View(NamedTuple):
    """How a page is looked at."""

    picture: str
    width: int
    dark: bool


VIEWS: Final = (
    View("utilization.png", 900, dark=False),
    View("utilization-dark.png", 900, dark=True),
    View("utilization-phone.png", 390, dark=False),
)
# A frame, because a window is never less than 500 pixels wide while it prints what it shows.
_FRAME: Final = """<!doctype html><iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}" onload="
const root = this.contentDocument.documentElement
document.body.dataset.size = root.scrollWidth + ' ' + root.scrollHeight"></iframe>"""


def example(folder: Path) -> Path:
    """Writes the page of `slicewise report` for the example cluster, as docs/utilization.md has it made."""
    for name, text in page("example.md").files().items():
        (folder / name).write_text(text, encoding="utf-8")
    measured.write(str(folder / "usage.json.gz"))
    command = ("report", "--usage", str(folder / "usage.json.gz"), "--snapshot", str(folder / "cluster.yaml"))
    made = subprocess.run(
        [sys.executable, "-m", "slicewise", *command, "-o", "html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (folder / "page.html").write_text(made.stdout, encoding="utf-8")
    return folder / "page.html"


def size(path: Path, view: View) -> tuple[int, int]:
    """Returns how wide and how high the page is where it has that width."""
    measuring = path.with_name("measuring.html")
    framed = _FRAME.format(width=view.width, page=escape(path.read_text(encoding="utf-8")))
    measuring.write_text(framed, encoding="utf-8")
    shown = _chromium(view, 800, "--dump-dom", measuring)
    found = re.search(r'data-size="(\d+) (\d+)"', shown)
    assert found, shown
    return int(found[1]), int(found[2])


def draw(path: Path, view: View, picture: Path) -> None:
    """Writes a picture of the whole page."""
    _chromium(view, size(path, view)[1], f"--screenshot={picture}", path)


def corner(picture: Path) -> tuple[int, int, int]:
    """Returns the colour of a PNG's first pixel, for which no filter of PNG matters."""
    data, chunks, at = picture.read_bytes(), b"", 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            chunks += data[at + 8 : at + 8 + length]
        at += length + 12
    red, green, blue = zlib.decompressobj().decompress(chunks, 4)[1:]
    return red, green, blue


def _chromium(view: View, height: int, what: str, path: Path) -> str:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium_program(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={0 if view.dark else 1}",
            f"--window-size={view.width},{height}",
            what,
            path.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for each in VIEWS:
            draw(example(Path(name)), each, ROOT / "docs" / each.picture)

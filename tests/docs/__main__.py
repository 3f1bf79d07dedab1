"""Writes the generated parts of docs/ anew: `python -m tests.docs`."""

from tests.docs import generated, pages

generated.write(pages.ROOT / "docs")

"""The status page of 5,000 nodes in a real Chromium: its first paint, its frames, and what axe-core finds on it."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.harness.browser import Tab, chromium
from e2e.test_page import PAINTED, mixed, open_pool, served, shared, whole

NAME = "page"
HELP = "the page of 5,000 nodes in Chromium: first paint, frames while it is scrolled, and axe-core"
_NODES = 5_000
_TIMES = """
({paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
  data: performance.getEntriesByName('painted')[0].startTime})
"""
_SCROLL = """
new Promise((resolve) => {
  const frames = []; let last = performance.now();
  const step = (now) => {
    frames.push(now - last); last = now;
    scrollBy(0, 200);
    if (frames.length < 300) requestAnimationFrame(step); else resolve(frames.slice(1));
  };
  requestAnimationFrame(step);
})
"""


def run(arguments: Sequence[str]) -> int:
    """Prints the times; fails on none of them."""
    number = int(arguments[0]) if arguments else _NODES
    asyncio.run(_measure(number))
    return 0


def _items(number: int) -> list[dict[str, Any]]:
    kinds = (mixed, whole, shared)
    return [
        kinds[i % 3](f"node-{i:05}", ready=i % 97 != 0, since=f"2026-11-{1 + i % 28:02}T08:00:00Z")
        for i in range(number)
    ]


async def _measure(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _items(number)}))
        async with served("--snapshot", str(file)) as address, chromium() as tab:
            await tab.look()
            for attempt in ("first", "second"):
                await tab.open(address)
                await tab.until(PAINTED)
                times = await tab.run(_TIMES)
                print(
                    f"{number} nodes, {attempt} visit: first paint after {times['paint']:.0f} ms, "
                    f"every pool drawn after {times['data']:.0f} ms"
                )
            await _scrolled(tab)
            await _judged(tab)


async def _scrolled(tab: Tab) -> None:
    await tab.run("document.querySelectorAll('.card button').forEach((each) => each.click())")
    await tab.until("document.querySelectorAll('.board').length > 1000")
    frames = sorted(await tab.run(_SCROLL))
    boards = await tab.run("document.querySelectorAll('.board').length")
    middle, most = frames[len(frames) // 2], frames[round(len(frames) * 0.99) - 1]
    print(
        f"{len(frames)} frames while nodes are scrolled and loaded ({boards} boards at the end): "
        f"half within {middle:.1f} ms, 99 of 100 within {most:.1f} ms, the longest {frames[-1]:.1f} ms"
    )


async def _judged(tab: Tab) -> None:
    await tab.call("Page.setBypassCSP", enabled=True)  # for axe, whose own scripts the policy keeps out
    await tab.call("Page.reload")
    await tab.until(PAINTED)
    await open_pool(tab, "h100-80gb-mig-mixed")
    print(f"against WCAG 2.2 AA, with a pool open, axe-core finds {len(await tab.judged())}")

"""A real Chromium without a window, driven over its DevTools protocol, and axe-core to judge what it shows.

Chromium is one on PATH, or Debian's package, which is installed where the run is root and there is none. axe-core comes
from npm.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp

from e2e.harness.debian import program
from e2e.harness.errors import ClusterError
from e2e.harness.pinned_archive import taken_from

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_AXE: Final = "axe-core@4.14.1"
_AXE_SHA512: Final = (
    "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5"
)
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_PATIENCE: Final = 60.0
_PAUSE: Final = 0.05


def chromium_program() -> str:
    """The path of Chromium, installed from Debian's package where it is missing."""
    return program(_NAMES, "chromium")


def axe() -> str:
    """The script of axe-core."""
    script = taken_from(_download, "sha512", _AXE_SHA512, _unpacked, f"{_AXE.replace('@', '-')}.js")
    return script.read_text()


def _download() -> list[str]:
    return [program(("npm",), "npm"), "pack", "--silent", _AXE]


def _unpacked(archive: Path) -> bytes:
    with tarfile.open(archive) as files:
        script = files.extractfile("package/axe.min.js")
        assert script is not None
        return script.read()


class Tab:
    """One page in the browser, and everything that went wrong on it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.problems: list[str] = []
        """Errors of scripts, refusals of the content security policy, failed requests."""
        self.requests: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> Any:
        """Calls a method of the DevTools protocol."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_PATIENCE):
            return await self._waiting[number]

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                waiting = self._waiting.pop(found["id"])
                if "error" in found:
                    waiting.set_exception(ClusterError(found["error"]["message"]))
                else:
                    waiting.set_result(found["result"])
                continue
            match found["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(found["params"]["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.problems.append(json.dumps(found["params"]["exceptionDetails"])[:2000])
                case "Log.entryAdded" if found["params"]["entry"]["level"] == "error":
                    self.problems.append(found["params"]["entry"]["text"])
                case "Audits.issueAdded":
                    self.problems.append(json.dumps(found["params"]["issue"])[:2000])

    async def open(self, url: str) -> None:
        """Goes to an address."""
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Makes the window so wide, and light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def run(self, script: str) -> Any:
        """Returns what an expression comes to, promises kept."""
        found = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise ClusterError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """Returns what an expression comes to, once that is true."""
        for _ in range(round(_PATIENCE / _PAUSE)):
            if found := await self.run(script):
                return found
            await asyncio.sleep(_PAUSE)
        text = await self.run("document.body.innerText")
        raise ClusterError(f"{script} did not come true on a page that says:\n{text[:3000]}")

    async def press(self, key: str) -> None:
        """Presses one key."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        common = {"key": key, "windowsVirtualKeyCode": codes[key]}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def picture(self) -> bytes:
        """Returns a picture of the window, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    async def judged(self) -> list[str]:
        """What axe-core finds against the rules of WCAG 2.2 AA, a line each."""
        await self.run(f"{axe()}; 0")
        found = await self.run(
            "axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations)"
        )
        return [
            f"{each['impact']} {each['id']}: {each['help']}: {node['html'][:300]}"
            for each in found
            for node in each["nodes"]
        ]


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """Starts a browser with one empty tab, and stops it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = chromium_program()
        process = await asyncio.create_subprocess_exec(
            program,
            *_FLAGS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    address = next(
                        each["webSocketDebuggerUrl"] for each in await answer.json() if each["type"] == "page"
                    )
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    """The port that Chromium wrote down."""
    for _ in range(round(_PATIENCE / _PAUSE)):
        if (text := await asyncio.to_thread(_written, file)) or process.returncode is not None:
            break
        await asyncio.sleep(_PAUSE)
    if not text:
        raise ClusterError("Chromium did not start: run `chromium --headless` by hand to see why.")
    return int(text.splitlines()[0])


def _written(file: Path) -> str:
    return file.read_text() if file.exists() else ""

"""HTTP as the test API server speaks it: requests as seen, answers as sent, and the faults between them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

End = Literal["close", "cut", "silence"]


@dataclass(slots=True)
class Fault:
    """What to do instead of answering the next `times` requests that match."""

    method: str = ""
    path: str = ""
    watch: bool | None = None
    later_page: bool = False
    agent: str = ""
    times: int = 1
    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    raw: bytes | None = None  # what a watch sends in place of events
    end: End | None = None  # how the connection ends
    lost: bool = False  # the request is acted upon, and its answer lost
    late: float = 0.0  # the request is acted upon, and its answer comes after so many seconds

    def matches(self, request: "Seen") -> bool:
        return (
            self.times > 0
            and self.method in ("", request.method)
            and self.path in request.path
            and self.watch in (None, request.watch)
            and self.later_page <= ("continue" in request.query)
            and self.agent in request.headers.get("user-agent", "")
        )


@dataclass(frozen=True, slots=True)
class Seen:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"


class Cut(Exception):  # noqa: N818
    """The connection ends here."""


async def read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Seen(method, unquote(url.path), dict(parse_qsl(url.query)), headers, body)


async def answer(
    writer: asyncio.StreamWriter, code: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {code} Code", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


async def start(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()


async def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()


async def finish(writer: asyncio.StreamWriter, end: End) -> None:
    if end == "silence":
        await asyncio.Event().wait()
    if end == "cut":
        raise Cut
    writer.write(b"0\r\n\r\n")
    await writer.drain()

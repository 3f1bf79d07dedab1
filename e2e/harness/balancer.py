"""What kube-proxy does for a Service: each new connection goes to a ready replica; open ones stay where they are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

Targets = Callable[[], Sequence[tuple[str, int]]]


class Balancer:
    """Listens on an address of its own and hands connections on, in turn, to those that `targets` names at the time.

    With nobody to go to, a connection is closed at once, which is what a Service without endpoints amounts to.
    """

    def __init__(self, host: str, port: int, targets: Targets) -> None:
        self._host, self._port, self._targets = host, port, targets
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"balancer of {port}", daemon=True)
        self._failure: OSError | None = None

    def start(self) -> None:
        """Returns once it listens. Raises OSError: the address cannot be had."""
        self._thread.start()
        self._listening.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends it with the connections that it carries."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def drop(self) -> None:
        """Ends the connections that it carries, and returns once they are; new ones are taken."""
        asyncio.run_coroutine_threadsafe(self._abort(), self._loop).result(10)

    def silence(self) -> None:
        """Carries nothing until `resume`, and keeps every connection open, as a network does that loses packets."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Carries everything again, what came meanwhile included."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    async def _abort(self) -> None:
        for end in self._open:
            end.transport.abort()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_server(self._connection, self._host, self._port)
        except OSError as error:
            self._failure = error
            return
        finally:
            self._listening.set()
        await self._stopping.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._open.add(writer)
        try:
            targets = self._targets()
            if targets:
                self._turn += 1
                there, back = await asyncio.open_connection(*targets[self._turn % len(targets)])
                ends.append(back)
                self._open.add(back)
                await asyncio.gather(pipe(reader, back, self._flowing), pipe(there, writer, self._flowing))
        except OSError:
            pass  # the replica went away: so does the connection
        finally:
            self._open.difference_update(ends)
            for end in ends:
                end.transport.abort()


async def pipe(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event | None = None
) -> None:
    """Carries what is read to the writer until either side ends, while `flowing` is set."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if flowing is not None:
                await flowing.wait()
            writer.write(data)
            await writer.drain()
    writer.close()

"""The loop whose clock only goes while all wait."""

import asyncio
import socket
import threading
import time

import pytest

from tests.kube.clocks import RESOLUTION

pytestmark = pytest.mark.hurried


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_no_time_passes_while_there_is_something_to_do() -> None:
    began = now()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() - began < 0.00001


async def test_what_is_left_of_a_sleep_that_ended_too_early_passes_though_others_are_busy() -> None:
    rest = asyncio.create_task(asyncio.sleep(3 * RESOLUTION))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert rest.done()


async def test_who_sleeps_wakes_in_order_and_not_before() -> None:
    woken = []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)
        assert began + seconds <= now()

    began = now()
    await asyncio.gather(*(sleeper(seconds) for seconds in (50.0, 5.0, 20.0)))
    assert woken == [5.0, 20.0, 50.0]


async def test_an_answer_of_this_loop_comes_before_any_timeout() -> None:
    one, other = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=one)
    _, answering = await asyncio.open_connection(sock=other)
    began = now()
    answering.write(b"answer")
    assert await asyncio.wait_for(reader.read(6), 0.001) == b"answer"
    assert now() - began < 0.001
    writer.close()
    answering.close()


async def test_while_a_thread_works_the_clock_goes_as_everybodys() -> None:
    release = threading.Event()
    thread = asyncio.create_task(asyncio.to_thread(release.wait))
    began, really = now(), time.perf_counter()
    await asyncio.sleep(0.05)
    assert now() - began <= time.perf_counter() - really
    release.set()
    await thread
    await asyncio.sleep(500)
    assert now() - began > time.perf_counter() - really

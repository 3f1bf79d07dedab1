"""The work queue: coalescing, order in time, one worker per key, backoff."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from slicewise.kube.clock import TokenBucket
from slicewise.kube.workqueue import QueueClosed, QueueSettings, WorkQueue, run_worker
from tests.kube.clocks import Clock, rounds


class Reader:
    """Takes keys as fast as they come, and lets go of them when told."""

    def __init__(self, queue: WorkQueue[str]) -> None:
        self.taken: list[str] = []
        self._queue = queue

    async def run(self) -> None:
        with suppress(QueueClosed):
            while True:
                self.taken.append(await self._queue.get())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queue(clock: Clock) -> AsyncIterator[WorkQueue[str]]:
    one: WorkQueue[str] = WorkQueue(QueueSettings(), clock.timing)
    yield one
    one.close()
    await rounds()


async def read(queue: WorkQueue[str]) -> Reader:
    reader = Reader(queue)
    task = asyncio.create_task(reader.run(), name="reader")
    task.add_done_callback(lambda _: None)
    await rounds()
    return reader


async def test_a_key_added_often_is_one_piece_of_work(queue: WorkQueue[str]) -> None:
    for key in "abaab":
        queue.add(key)
    assert queue.depth == 2
    reader = await read(queue)
    assert reader.taken == ["a", "b"]
    assert (queue.depth, queue.in_flight) == (0, 2)


async def test_workers_that_wait_for_a_time_do_not_wake_each_other(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.add_after("late", 10.0)
    first, second = await read(queue), await read(queue)
    queue.add("now")
    await rounds()
    waited = len(clock.slept)
    await rounds()
    assert (first.taken + second.taken, len(clock.slept)) == (["now"], waited)
    clock.advance(10.0)
    await rounds()
    assert sorted(first.taken + second.taken) == ["late", "now"]


async def test_a_key_in_flight_comes_again_only_after(queue: WorkQueue[str]) -> None:
    queue.add("a")
    reader = await read(queue)
    queue.add("a")
    queue.add_after("a", 0)
    await rounds()
    assert reader.taken == ["a"]
    queue.done("a")
    await rounds()
    assert reader.taken == ["a", "a"]
    queue.done("a")
    await rounds()
    assert (reader.taken, queue.depth) == (["a", "a"], 0)


async def test_a_waiting_reader_wakes_up(queue: WorkQueue[str]) -> None:
    readers = [await read(queue), await read(queue)]
    queue.add("a")
    queue.add("b")
    await rounds()
    assert sorted(readers[0].taken + readers[1].taken) == ["a", "b"]


async def test_of_several_delays_the_earliest_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    reader = await read(queue)
    assert queue.depth == 0
    for seconds, taken in ((4.9, []), (0.2, ["a"]), (100, ["a"])):
        clock.advance(seconds)
        await rounds()
        assert reader.taken == taken


async def test_a_delay_outlives_an_earlier_addition(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    reader = await read(queue)
    queue.done("a")
    assert reader.taken == ["a"]
    clock.advance(10)
    await rounds()
    assert reader.taken == ["a", "a"]


@pytest.mark.parametrize(
    ("additions", "due"),
    [
        ([0.0], 2.0),
        ([0.0, 1.0], 3.0),
        ([0.0, 1.5, 3.0, 4.5], 5.0),  # never later than max_wait after the first
        ([0.0, 1.5, 3.0, 4.5, 4.9], 5.0),
    ],
)
async def test_the_window_waits_for_quiet_but_not_for_ever(
    clock: Clock, additions: list[float], due: float
) -> None:
    queue: WorkQueue[str] = WorkQueue(QueueSettings(window=2.0, max_wait=5.0), clock.timing)
    reader = await read(queue)
    start = clock.at
    for at in additions:
        clock.advance(start + at - clock.at)
        await rounds()
        queue.add("a")
    clock.advance(start + due - 0.01 - clock.at)
    await rounds()
    assert reader.taken == []
    assert queue.oldest_age() == pytest.approx(due - 0.01)
    clock.advance(0.02)
    await rounds()
    assert reader.taken == ["a"]
    assert queue.oldest_age() == 0
    queue.close()
    await rounds()


async def test_an_explicit_delay_cuts_the_window_short(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(QueueSettings(window=2.0), clock.timing)
    queue.add("a")
    queue.add_after("a", 1.0)
    reader = await read(queue)
    clock.advance(1.0)
    await rounds()
    assert reader.taken == ["a"]
    queue.close()
    await rounds()


async def test_failures_back_off_by_key_until_forgotten(queue: WorkQueue[str]) -> None:
    assert [queue.fail("a") for _ in range(4)] == [0.005, 0.01, 0.02, 0.04]
    assert queue.fail("b") == 0.005
    assert [queue.failures(key) for key in "abc"] == [4, 1, 0]
    for _ in range(70):
        longest = queue.fail("a")
    assert longest == 300
    queue.forget("a")
    assert queue.failures("a") == 0


async def test_failures_of_many_keys_share_a_rate(clock: Clock) -> None:
    queue: WorkQueue[int] = WorkQueue(QueueSettings(rate=10, burst=2), clock.timing)
    assert [queue.fail(key) for key in range(4)] == [0.005, 0.005, 0.1, 0.2]


def test_a_bucket_refills_up_to_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=1, burst=2, timing=clock.timing)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.at += 100
    assert [bucket.take() for _ in range(3)] == [True, True, False]


async def test_closing_ends_readers_at_once(queue: WorkQueue[str]) -> None:
    waiting = asyncio.create_task(queue.get())
    await rounds()
    queue.close()
    with pytest.raises(QueueClosed):
        await waiting
    with pytest.raises(QueueClosed):
        await queue.get()


async def test_a_worker_survives_failures_and_asks_again(
    queue: WorkQueue[str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> float | None:
        seen.append(key)
        if len(seen) == 1:
            raise ValueError("not today")
        return 60.0 if len(seen) == 2 else None

    task = asyncio.create_task(run_worker(queue, reconcile), name="worker")
    queue.add("a")
    await rounds()
    assert [record.message for record in caplog.records] == ["work failed"]
    assert queue.failures("a") == 1
    clock.advance(0.01)
    await rounds()
    assert (seen, queue.failures("a")) == (["a", "a"], 0)
    clock.advance(60)
    await rounds()
    assert seen == ["a", "a", "a"]
    queue.close()
    await task


async def test_a_key_whose_worker_is_cancelled_is_not_lost(queue: WorkQueue[str]) -> None:
    started = asyncio.Event()

    async def reconcile(_: str) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_worker(queue, reconcile), name="worker")
    queue.add("a")
    await started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (queue.depth, queue.in_flight) == (1, 0)
    assert await queue.get() == "a"


async def test_many_keys_that_wait_for_nothing_leave_others_their_turn(queue: WorkQueue[str]) -> None:
    done: list[str] = []

    async def reconcile(key: str) -> None:
        done.append(key)

    task = asyncio.create_task(run_worker(queue, reconcile), name="worker")
    for number in range(1000):
        queue.add(f"{number}")
    await rounds(30)
    assert 0 < len(done) <= 30
    await rounds(2000)
    assert len(done) == 1000
    queue.close()
    await task

"""A hold is as long as it says, whatever the clocks of machines show: restarts, one wrong clock at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.manager import Manager
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.node_trust import evaluate
from slicewise.api import keys
from slicewise.kube.clock import AGREEMENT, ClusterClock, cluster_time
from slicewise.kube.events import Recorder
from slicewise.kube.leader_election import Elector
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import LOOP_TIME
from tests.queue_sync.running import KINDS, LEASES, NODES, SLOW, World, client_of, eventually
from tests.queue_sync.scenes import MIXED, ONE, look, mixed
from tests.queue_sync.test_node_trust import SETTINGS, SEVEN, T0, written

DAY, HOUR = 86_400, 3_600
START = time.time()


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 90), st.integers(0, 20), st.integers(-DAY, DAY)), min_size=3, max_size=20
    ),
    server_is_wrong=st.booleans(),
)
def test_a_hold_survives_a_restart_after_every_step(
    steps: list[tuple[int, int, int]], *, server_is_wrong: bool
) -> None:
    """Each process leads for a while, is away for a while, and starts where one clock is wrong.

    The bound of docs/quota.md: the hold is wrong by no more than nobody led, and what agreement is.
    """
    doubted = mixed("n", SEVEN, ready=False)
    believed = evaluate(None, look(mixed("n", SEVEN)), T0, SETTINGS)
    document = written(doubted, evaluate(believed, look(doubted), T0, SETTINGS))
    elapsed, renewed, longest_away = 0, T0, 0
    for leading, away, skew in steps:
        elapsed += away
        longest_away = max(longest_away, away)
        bound = longest_away + AGREEMENT
        right, wrong = T0 + elapsed, T0 + elapsed + skew
        now = cluster_time(*((wrong, right) if server_is_wrong else (right, wrong)), renewed)
        assert renewed <= now
        assert abs(now - right) <= bound
        belief = evaluate(None, look(document), now, SETTINGS)
        if elapsed < SETTINGS.hold_down - bound:
            assert belief.counted is not None
        if elapsed >= SETTINGS.hold_down + bound:
            assert belief.counted is None
        document = written(doubted, belief)
        elapsed, renewed = elapsed + leading, now + leading


@asynccontextmanager
async def elected(server: ApiServer, ahead: float) -> AsyncIterator[Manager]:
    """A controller on a machine whose clock is wrong; in the end it is killed, and releases nothing."""
    timing = replace(LOOP_TIME, wall=lambda: datetime.fromtimestamp(_date() + ahead, UTC))
    async with client_of(server, timing) as client:
        clock = ClusterClock(client.timing, client.server_time)
        elector = Elector(client, namespace="slicewise-system", name="slicewise-controller", clock=clock)
        recorder = Recorder(client, controller="slicewise.io/controller", instance=elector.identity)
        manager = Manager(client, client, recorder, SLOW, Metrics(), clock=clock)
        tasks = [asyncio.create_task(part) for part in (manager.watch(), elector.run(manager.lead))]
        try:
            yield manager
        finally:
            elector._renewed_at = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _date() -> float:
    """A clock that goes as fast as the controller's."""
    return START + LOOP_TIME.now()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_a_restart_during_a_hold_on_a_machine_whose_clock_is_wrong(ahead: int) -> None:
    async with ApiServer(KINDS).running() as server:
        server.date = _date
        world = World(server)
        world.node(mixed("n1", SEVEN))
        world.plan()
        async with elected(server, 0):
            await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
            world.node(mixed("n1", SEVEN, ready=False))
            await eventually(
                lambda: "heldSince" in server.objects[NODES]["n1"]["metadata"]["annotations"][keys.OFFER]
            )
            held = LOOP_TIME.now()
        async with elected(server, ahead) as controller:
            await eventually(lambda: controller.leading)
            await world.idle(controller)
            assert world.quota() == {(MIXED, ONE): "7"}
            belief = controller.node_states.belief("n1")
            assert belief is not None
            assert belief.look_at is not None
            (lease,) = server.objects[LEASES].values()
            left = belief.look_at - datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
            assert left == pytest.approx(SLOW.hold_down - (LOOP_TIME.now() - held), abs=60)

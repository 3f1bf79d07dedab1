"""The faults: each begins, lasts while its block runs, and is over when the block ends. One row a fault."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from e2e.chaos.scene import KUEUE, LEASE, OWN, PLAN, QUEUES, Scene
from e2e.harness.client import Object
from e2e.harness.installation import CONFIGURATION, NAMESPACE
from e2e.harness.lifecycle import Pod
from e2e.harness.loopback import WEBHOOK_KINDS
from e2e.harness.processes import Program

REGISTRATIONS, FLOW = "admissionregistration.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1"
Fault = Callable[[Scene, random.Random], AbstractContextManager[None]]


def _replicas(scene: Scene, role: str) -> list[Pod]:
    found = scene.pods({"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": role})
    return [pod for pod in found if pod.program is not None and pod.program.running]


def _kill(role: str, *, both: bool) -> Fault:
    @contextmanager
    def fault(scene: Scene, chance: random.Random) -> Iterator[None]:
        running = _replicas(scene, role)
        for pod in running if both else running[:1] if chance.random() < 0.5 else running[1:]:
            assert pod.program is not None
            pod.program.kill()
        yield

    return fault


@contextmanager
def _paused(program: Program, seconds: float) -> Iterator[None]:
    pid = program.pid

    def resume() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    with _over_after(seconds, resume):
        yield


@contextmanager
def _over_after(seconds: float, end: Callable[[], None]) -> Iterator[None]:
    """Ends a fault in time, whatever waits for that meanwhile."""
    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def _freeze(role: str) -> Fault:
    @contextmanager
    def fault(scene: Scene, chance: random.Random) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for pod in _replicas(scene, role)[:1]:
                assert pod.program is not None
                stack.enter_context(_paused(pod.program, chance.uniform(5, 20)))
            yield

    return fault


@contextmanager
def _etcd_paused(scene: Scene, chance: random.Random) -> Iterator[None]:
    with _paused(scene.program("etcd"), chance.uniform(2, 6)):
        yield


def _killed(program: str) -> Fault:
    @contextmanager
    def fault(scene: Scene, chance: random.Random) -> Iterator[None]:
        scene.cluster.kill(program)
        time.sleep(chance.uniform(0, 3))
        scene.cluster.start(program)
        yield

    return fault


@contextmanager
def _connections_dropped(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Every connection of Slicewise to the API server ends at once, watches among them."""
    for _ in range(chance.randint(1, 5)):
        scene.cluster.network.drop()
        time.sleep(chance.uniform(0, 1))
    yield


@contextmanager
def _network_silent(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Nothing arrives between Slicewise and the API server, and no connection ends."""
    scene.cluster.network.silence()
    with _over_after(chance.uniform(5, 20), scene.cluster.network.resume):
        yield


@contextmanager
def _kueue_away(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Kueue's webhook refuses every write to its queues, also the one that puts an edit back."""
    _edit(scene, chance)
    scene.cluster.kill("kueue")
    with _over_after(chance.uniform(2, 5), lambda: scene.cluster.start("kueue")):
        yield


@contextmanager
def _edits(scene: Scene, chance: random.Random) -> Iterator[None]:
    for _ in range(chance.randint(1, 4)):
        _edit(scene, chance)
        time.sleep(chance.uniform(0, 1))
    yield


def _edit(scene: Scene, chance: random.Random) -> None:
    """Somebody else writes a number of his own into a queue."""
    scene.edited_since = scene.edited_since or scene.now()

    def write() -> None:
        queue = scene.cluster.get(KUEUE, "ClusterQueue", chance.choice(QUEUES))
        for group in queue["spec"]["resourceGroups"]:
            for flavor in group["flavors"]:
                flavor["resources"][0]["nominalQuota"] = str(chance.choice((0, 3, 500)))
        scene.cluster.replace(queue)

    scene.patiently(write)


@contextmanager
def _plan_made_anew(scene: Scene, chance: random.Random) -> Iterator[None]:
    scene.patiently(lambda: scene.cluster.delete(OWN, "QuotaPlan", PLAN["metadata"]["name"], wait=True))
    time.sleep(chance.uniform(0, 3))
    yield
    scene.patiently(lambda: scene.cluster.apply(PLAN))


@contextmanager
def _second_plan(scene: Scene, _: random.Random) -> Iterator[None]:
    """A plan over the same pool, made by mistake: refused at the door, also when nobody is there to ask."""
    second: Object = {**PLAN, "metadata": {"name": "chaos-second"}}
    # The fault beside this one may have deleted the first: then this one is the only one, and is taken.
    first = scene.patiently(lambda: scene.cluster.find(OWN, "QuotaPlan", PLAN["metadata"]["name"]))
    answer = scene.patiently(lambda: scene.cluster.try_create(second))
    if answer.status == 201:
        if first is not None:
            scene.fail("a second plan over the same pool was taken")
        scene.patiently(lambda: scene.cluster.delete(OWN, "QuotaPlan", "chaos-second"))
    yield


@contextmanager
def _lease_lost(scene: Scene, chance: random.Random) -> Iterator[None]:
    if chance.random() < 0.5:
        scene.patiently(lambda: scene.cluster.delete(*LEASE))
    else:
        stolen = {"spec": {"holderIdentity": "somebody-else"}}
        scene.patiently(lambda: scene.cluster.patch(*LEASE[:3], stolen, LEASE[3]))
    yield


@contextmanager
def _authority_lost(scene: Scene, chance: random.Random) -> Iterator[None]:
    if chance.random() < 0.5:
        scene.patiently(lambda: scene.cluster.delete("v1", "Secret", "slicewise-webhook-ca", NAMESPACE))
    else:
        for kind in WEBHOOK_KINDS:
            scene.patiently(partial(_strip, scene, kind))
    yield


def _strip(scene: Scene, kind: str) -> None:
    found = scene.cluster.get(REGISTRATIONS, kind, CONFIGURATION)
    for entry in found["webhooks"]:
        entry["clientConfig"].pop("caBundle", None)
    scene.cluster.replace(found)


@contextmanager
def _throttled(scene: Scene, chance: random.Random) -> Iterator[None]:
    """The API server answers the controller with 429, and nothing else."""
    account = {"name": "slicewise-controller", "namespace": NAMESPACE}
    level: Object = {
        "apiVersion": FLOW,
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "chaos"},
        "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}},
        },
    }
    rules = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
        "resourceRules": [
            {
                "verbs": ["*"],
                "apiGroups": ["*"],
                "resources": ["*"],
                "namespaces": ["*"],
                "clusterScope": True,
            }
        ],
    }
    schema: Object = {
        "apiVersion": FLOW,
        "kind": "FlowSchema",
        "metadata": {"name": "chaos"},
        "spec": {
            "priorityLevelConfiguration": {"name": "chaos"},
            "matchingPrecedence": 2,
            "rules": [rules],
        },
    }
    scene.patiently(lambda: scene.cluster.apply([level, schema]))
    try:
        yield
        time.sleep(chance.uniform(2, 8))
    finally:
        for item in (schema, level):
            scene.patiently(partial(scene.cluster.delete, FLOW, item["kind"], "chaos", wait=True))


FAULTS: Mapping[str, Fault] = {
    "a controller killed": _kill("controller", both=False),
    "both controllers killed": _kill("controller", both=True),
    "a controller frozen": _freeze("controller"),
    "a webhook killed": _kill("webhook", both=False),
    "both webhooks killed": _kill("webhook", both=True),
    "a webhook frozen": _freeze("webhook"),
    "etcd paused": _etcd_paused,
    "etcd killed": _killed("etcd"),
    "API server restarted": _killed("kube-apiserver"),
    "connections to the API server dropped": _connections_dropped,
    "no word from the API server": _network_silent,
    "Kueue away during an edit": _kueue_away,
    "edits by somebody else": _edits,
    "plan deleted and made": _plan_made_anew,
    "second plan over the pool": _second_plan,
    "lease deleted or stolen": _lease_lost,
    "certificate authority lost": _authority_lost,
    "429 for the controller": _throttled,
}

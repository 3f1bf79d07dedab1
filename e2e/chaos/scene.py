"""The cluster that the faults happen to: its nodes and what they offer, its plan, and who watches."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import urllib3

from e2e.chaos.checker import Quota, Sample, Truth
from e2e.chaos.network import RemoteCluster
from e2e.harness import nodes
from e2e.harness.client import ApiError, Object, eventually
from e2e.harness.errors import ClusterError
from e2e.harness.installation import NAMESPACE, Installation, namespace
from e2e.harness.lifecycle import Pod
from e2e.harness.pods import Played
from e2e.harness.processes import Program

T = TypeVar("T")
OWN, KUEUE = "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2"
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
TEAM, QUEUES = "chaos", ("chaos-a", "chaos-b")
PLAN: Object = {
    "apiVersion": OWN,
    "kind": "QuotaPlan",
    "metadata": {"name": "chaos"},
    "spec": {
        "engine": "kueue",
        "cohort": "chaos",
        "queues": [
            {"name": name, "share": share, "namespaces": {"matchLabels": {"team": TEAM}}}
            for name, share in zip(QUEUES, (2, 1), strict=True)
        ],
    },
}
WORK: Object = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",  # Kueue has no webhook for it, whose absence would refuse the work
    "metadata": {"name": "work", "namespace": TEAM},
    "spec": {
        "schedule": "0 0 1 1 *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [
                            {"name": "main", "image": "none", "resources": {"limits": {GPU: "1"}}}
                        ],
                    }
                }
            }
        },
    },
}
SMALL, LARGE = {"1g.10gb": 7}, {"3g.40gb": 2}
STEADY, CHANGING = "chaos-steady", ("chaos-1", "chaos-2", "chaos-3")
AWAY = (ApiError, urllib3.exceptions.HTTPError, AssertionError, LookupError)
HOLD_DOWN = 10.0
LEASE = ("coordination.k8s.io/v1", "Lease", "slicewise-controller", NAMESPACE)
SETTLES_WITHIN = 60.0
STEADY_FOR = 10.0
QUIET_FOR = HOLD_DOWN + 5
"""What a change of nodes leaves to do is done by then: the hold-down's end is the last of it."""


class Scene:
    """A real control plane with Slicewise on it, watched from outside."""

    def __init__(self, cluster: RemoteCluster, folder: Path) -> None:
        self.cluster = cluster
        self.truth = Truth()
        self.samples: list[Sample] = []
        self.work: Counter[str] = Counter()
        self.memory: dict[str, list[int]] = {"webhook": [], "controller": []}
        self.failures: list[str] = []
        self.edited_since: float | None = None
        self.calm = True
        self._folder = folder
        # Who calls a replica that is frozen waits no longer than where it is installed as it is shipped.
        self._slicewise = Installation(
            cluster, folder, settle="1s", hold_down=f"{HOLD_DOWN:g}s", webhook__timeoutSeconds=3
        )
        self._divided = dict.fromkeys((STEADY, *CHANGING), nodes.mig_mixed("", SMALL, gpus=1))
        self._there = set(self._divided)
        self._began = time.monotonic()
        self._over = threading.Event()
        self._watchers = [threading.Thread(target=each, daemon=True) for each in (self._sample, self._submit)]

    # What a fault may ask.

    def now(self) -> float:
        """Seconds since the scene began."""
        return time.monotonic() - self._began

    def fail(self, what: str) -> None:
        """A promise that was broken."""
        self.failures.append(f"at {self.now():.1f} s {what}")

    def pods(self, labels: Mapping[str, str]) -> list[Pod]:
        """The Pods of Slicewise with these labels."""
        pods = self._slicewise.pods
        assert isinstance(pods, Played)
        return pods.kubelet.pods(labels)

    def program(self, name: str) -> Program:
        """A component of the control plane."""
        return self.cluster.program(name)

    def patiently(self, act: Callable[[], T]) -> T:
        """Does something as often as it takes: another fault may be on its way."""
        return eventually(act, timeout=SETTLES_WITHIN)

    # The story.

    def start(self) -> None:
        """Installs Slicewise, makes nodes and a plan, and begins to watch."""
        self._slicewise.start()
        namespace(self.cluster, TEAM, policy="default", workload_class="inference", team=TEAM)
        for name in self._divided:
            self._make(name)
        self.cluster.apply(PLAN)
        eventually(self._settled, "the scene is set")
        for each in self._watchers:
            each.start()

    def stop(self) -> None:
        """Ends the watch and the programs."""
        self._over.set()
        for each in self._watchers:
            if each.is_alive():
                each.join()
        self._slicewise.stop()

    def settle(self, what: str) -> float:
        """Waits until quota and truth are one again; returns the seconds it took."""
        began = self.now()
        for name in self.cluster.components:  # what ended because its API server did
            self.cluster.start(name)
        try:
            eventually(self._settled, timeout=SETTLES_WITHIN)
        except AssertionError as error:
            self.fail(f"not settled within {SETTLES_WITHIN:g} s after {what}: {error.__cause__ or error}")
        if self.edited_since is not None:
            self.truth.edited(self.edited_since, self.now())
            self.edited_since = None
        return self.now() - began

    def writes_while_steady(self) -> list[str]:
        """What Slicewise's own accounts write while nothing happens, by the API server's audit log.

        Leases are left out, and the count of an Event that stands: it follows within a minute.
        """
        self._quiet()
        self.calm = True
        start = self.cluster.audit_log.stat().st_size
        time.sleep(STEADY_FOR)
        self.calm = False
        return list(self._written(start))

    def change_nodes(self, chance: random.Random) -> str:
        """Does something to a node that changes what it offers, or only seems to; returns what."""
        name = chance.choice(CHANGING)
        if name not in self._there:
            self._make(name)
            return "node back"
        act = chance.choice((self._remove, self._divide, self._flap, self._cordon))
        return self.patiently(lambda: act(name))

    def _make(self, name: str) -> None:
        node = nodes.mig_mixed(name, self._profiles(name), gpus=1)
        self._there.add(name)
        self.truth.change(name, node.resources, self.now())

        def make() -> None:
            if self.cluster.find("v1", "Node", name) is None:
                self.cluster.create(node.manifest())

        self.patiently(make)

    def _remove(self, name: str) -> str:
        self.cluster.delete("v1", "Node", name)
        self._there.discard(name)
        self.truth.change(name, {}, self.now())
        return "node removed"

    def _divide(self, name: str) -> str:
        before = nodes.mig_mixed(name, self._profiles(name), gpus=1)
        other = LARGE if self._profiles(name) == SMALL else SMALL
        after = nodes.mig_mixed(name, other, gpus=1)
        self.truth.change(name, {}, self.now())
        *steps, last = nodes.repartition(before, after)
        for step in steps:
            self.patiently(partial(step.apply, self.cluster, name))
        self._divided[name] = after
        # The controller may see the last step before its answer is here.
        self.truth.change(name, after.resources, self.now())
        self.patiently(partial(last.apply, self.cluster, name))
        return "node divided anew"

    def _flap(self, name: str) -> str:
        """A device plugin starts anew; only one that takes as long as the hold-down is a loss."""
        began = self.now()
        self.patiently(lambda: nodes.plugin_gone(self.cluster, name))
        time.sleep(1)
        # Not what the capacity says: a kubelet keeps names there that are no longer offered.
        self.patiently(lambda: nodes.advertise(self.cluster, name, self._divided[name].resources))
        if self.now() - began > HOLD_DOWN / 2:
            self.truth.change(name, {}, began)
            self.truth.change(name, self._divided[name].resources, self.now())
        return "device plugin restarted"

    def _cordon(self, name: str) -> str:
        self.truth.change(name, {}, self.now())
        self.patiently(lambda: nodes.cordon(self.cluster, name))
        time.sleep(1)
        self.patiently(lambda: nodes.uncordon(self.cluster, name))
        self.truth.change(name, self._divided[name].resources, self.now())
        return "node cordoned"

    def _profiles(self, name: str) -> Mapping[str, int]:
        return LARGE if "nvidia.com/mig-3g.40gb" in self._divided[name].resources else SMALL

    # The watch.

    def _quota(self) -> Quota:
        total: Counter[str] = Counter()
        for queue in self.cluster.list(KUEUE, "ClusterQueue"):
            for group in queue["spec"].get("resourceGroups", ()):
                for flavor in group["flavors"]:
                    for each in flavor["resources"]:
                        total[each["name"]] += int(each["nominalQuota"])
        return total

    def _settled(self) -> bool:
        assert self._quota() == self.truth.at(self.now()), (self._quota(), self.truth.at(self.now()))
        became = self._rewritten()
        assert became == "rewritten", f"work is {became}"
        return True

    def _rewritten(self) -> str:
        answer = self.cluster.try_create(WORK, dry_run=True)
        if answer.status != 201:
            is_refusal = answer.status in {400, 403, 422} or "webhook" in answer.message
            return f"refused: {answer.message}" if is_refusal else "unanswered"
        template = answer.body["spec"]["jobTemplate"]["spec"]["template"]
        return "rewritten" if GPU not in template["spec"]["containers"][0]["resources"]["limits"] else "left"

    def _sample(self) -> None:
        while not self._over.wait(0.5):
            try:
                quota = self._quota()
            except AWAY:
                continue
            self.samples.append(Sample(self.now(), quota))  # an answer may take as long as etcd is away
            for role, seen in self.memory.items():
                labels = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": role}
                seen.extend(filter(None, (_resident(pod) for pod in self.pods(labels))))

    def _submit(self) -> None:
        while not self._over.wait(0.25):
            calm = self.calm
            try:
                became = self._rewritten()
            except AWAY:
                became = "unanswered"
            if became.startswith("refused") or (became != "rewritten" and calm and self.calm):
                self.fail(f"work was {became}")
            self.work[became.partition(":")[0]] += 1

    def _quiet(self) -> None:
        """Waits until one controller has led for a while, and Slicewise has written nothing meanwhile.

        While nobody leads nothing is written either, and what came meanwhile is written by the next one.
        """

        def check() -> None:
            start, lease = self.cluster.audit_log.stat().st_size, self._lease()
            time.sleep(QUIET_FOR)
            assert not list(self._written(start))
            assert has_led(lease, self._lease()), "nobody led all the time"

        eventually(check, "Slicewise comes to rest", timeout=SETTLES_WITHIN + 2 * QUIET_FOR)

    def _lease(self) -> Object:
        return dict(self.cluster.get(*LEASE)["spec"])

    def _written(self, start: int) -> Iterator[str]:
        with self.cluster.audit_log.open("rb") as log:
            log.seek(start)
            for line in log.read().splitlines():
                entry = json.loads(line)
                at = entry.get("objectRef", {})
                if (
                    entry["user"]["username"].startswith("system:serviceaccount:slicewise-system:")
                    and entry["verb"] in {"create", "update", "patch", "delete"}
                    and at.get("resource") != "leases"
                    and (entry["verb"], at.get("resource")) != ("patch", "events")
                    and "dryRun=All" not in entry["requestURI"]
                ):
                    account = entry["user"]["username"].rpartition(":")[2]
                    status = entry.get("responseStatus", {}).get("code")
                    yield (
                        f"{entry['requestReceivedTimestamp']} {account}: "
                        f"{entry['verb']} {at.get('resource')}/{at.get('name')} ({status})"
                        f" {json.dumps(entry.get('requestObject'))}"
                    )

    def tracebacks(self) -> list[str]:
        """The lines that begin a stack trace in anything that Slicewise wrote."""
        return [
            f"{path.name}: {line}"
            for path in sorted(self._folder.rglob("slicewise-*.log"))
            for line in path.read_text(errors="replace").splitlines()
            if "Traceback (most recent call last)" in line
        ]


def has_led(before: Object, after: Object) -> bool:
    """Whether the one who has a Lease had it before, and has renewed it since."""
    same = (before.get("holderIdentity"), before.get("leaseTransitions")) == (
        after.get("holderIdentity"),
        after.get("leaseTransitions"),
    )
    return bool(after.get("holderIdentity")) and same and before.get("renewTime") != after.get("renewTime")


def _resident(pod: Pod) -> int:
    """The memory of a Pod's program in MiB; 0 when it does not run."""
    try:
        assert pod.program is not None
        pages = int(Path(f"/proc/{pod.program.pid}/statm").read_text().split()[1])
    except (AssertionError, ClusterError, OSError):
        return 0
    return pages * 4096 // 2**20

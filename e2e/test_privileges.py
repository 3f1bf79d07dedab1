"""Two service accounts with the rights that the chart gives them: all of them are used, and nothing is missing.

An API server that writes down every request is asked afterwards what the two programs did in a whole story.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import nodes, volcano
from e2e.harness.binaries import VOLCANO, ensure
from e2e.harness.client import APPLY_PATCH, KubeClient, Object, Response, eventually
from e2e.harness.cluster import Cluster
from e2e.harness.installation import CONFIGURATION, NAMESPACE, Installation, namespace
from e2e.harness.loopback import WEBHOOK_KINDS
from queue_sync.webhook_selfcheck import PLAN, TEMPLATE
from slicewise.api import keys
from slicewise.kube.client import Client
from slicewise.kube.events import EventSettings, Recorder, Regarding

GPU, ONE, THREE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
OWN, KUEUE, SCHEDULING = "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2", "scheduling.volcano.sh/v1beta1"
RBAC, REGISTRATIONS = "rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1"
MIXED, SHARES = "h100-80gb-mig-mixed", "t4-time-slicing-x10"
SECRET, LEASE = "slicewise-webhook-ca", "slicewise-controller"
TEAM = "rights-team"
ROLES = ("slicewise-webhook", "slicewise-controller")
# Server-side apply asks for the right to create within the same request, so that the log does not show it.
WITHIN_APPLY = {("slicewise-controller", "create", "slicewise.io", "quotaplans", keys.PROBE)}
# What is written is read again only when somebody else wrote it meanwhile (tests/queue_sync/test_writer.py).
AFTER_A_CONFLICT = {
    ("slicewise-controller", "get", group, resource, "")
    for group, resource in (
        ("", "nodes"),
        ("kueue.x-k8s.io", "resourceflavors"),
        ("kueue.x-k8s.io", "clusterqueues"),
        ("scheduling.volcano.sh", "queues"),
        ("slicewise.io", "slicingpolicies"),
    )
}


@dataclass(frozen=True)
class Grant:
    """One verb on one resource for one of the two programs."""

    account: str
    verb: str
    group: str
    resource: str
    name: str
    """Empty: of any name."""
    namespace: str
    """Empty: anywhere."""

    def covers(self, event: Object) -> bool:
        """Whether a request needed this right."""
        about = event["objectRef"]
        resource = "/".join(about[key] for key in ("resource", "subresource") if key in about)
        return (
            event["user"]["username"].endswith(f":{self.account}")
            and (event["verb"], about.get("apiGroup", ""), resource) == (self.verb, self.group, self.resource)
            and self.name in ("", about.get("name", ""))
            and self.namespace in ("", about.get("namespace", ""))
        )


def grants(objects: list[Object]) -> Iterator[Grant]:
    """Every right that the chart gives the two programs, one by one; other roles are for people."""
    for item in objects:
        metadata = item["metadata"]
        account = metadata["name"].removesuffix(
            "-files"
        )  # what is planned for nodes, in a namespace of its own
        if item["kind"] not in {"Role", "ClusterRole"} or account not in ROLES:
            continue
        for rule in item["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield Grant(account, verb, group, resource, name, metadata.get("namespace", ""))


@pytest.fixture(scope="module")
def slicewise(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Slicewise on a cluster that keeps an audit log, with Kueue and with Volcano's Queues, after the story."""
    request.getfixturevalue("programs")
    with Cluster(kueue=True, audit=True) as cluster:
        crds = volcano.crds(ensure(VOLCANO))
        cluster.apply([each for each in crds if each["metadata"]["name"] == "queues.scheduling.volcano.sh"])
        folder = tmp_path_factory.mktemp("rights")
        found = Installation(
            cluster, folder, controller__selfCheck="2s", nodes__gpuOperatorNamespace="default"
        )
        found.start()
        try:
            story(found)
            eventually(lambda: is_probed(found), "the self-check has gone both ways")
            yield found
        finally:
            found.stop()


def plan(name: str, engine: str, *queues: Object, **spec: Any) -> Object:
    metadata = {"name": name}
    spec = {"engine": engine, "queues": list(queues), **spec}
    return {"apiVersion": OWN, "kind": "QuotaPlan", "metadata": metadata, "spec": spec}


def story(slicewise: Installation) -> None:
    """What happens to a cluster in its life: nodes come, are divided anew and go, plans change, things get lost."""
    cluster = slicewise.cluster
    classes = {"inference": {"strategy": "mig"}}
    policy = {"apiVersion": OWN, "kind": "SlicingPolicy", "metadata": {"name": "rights"}}
    cluster.apply({**policy, "spec": {"defaultClass": "inference", "classes": classes}})
    namespace(cluster, TEAM, policy="rights", team="rights")
    first, second = nodes.mig_mixed("rights-a", {"1g.10gb": 7}, gpus=1), nodes.time_slicing("rights-b", 10)
    nodes.add(cluster, first, second)
    everybody = {"namespaces": {"matchLabels": {"team": "rights"}}}
    kept = {"name": "rights", "share": 1, **everybody}
    more = {"name": "rights-more", "share": 1, **everybody}
    # The finalizer comes with this policy, and goes when the plan is written again without it.
    cluster.apply(
        plan("rights", "kueue", kept, more, pools={"matchNames": [MIXED]}, deletionPolicy="Release")
    )
    cluster.apply(
        plan(
            "rights-tree",
            "volcano",
            {"name": "leaf"},
            {"name": "twig"},
            pools={"matchNames": [SHARES]},
            cohort="stem",
        )
    )
    eventually(lambda: exists(cluster, KUEUE, "LocalQueue", "rights", TEAM), "queues are made")
    eventually(lambda: exists(cluster, SCHEDULING, "Queue", "leaf"), "and those of Volcano's")

    made = eventually(lambda: cluster.create(job("works")), "every replica knows the policy")
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {ONE: "1"}

    # A lasting taint makes another pool of the node; until that is believed, the flavor it leaves carries the taint.
    taint = {"key": "rights", "value": "yes", "effect": "NoSchedule"}
    cluster.patch("v1", "Node", "rights-a", {"spec": {"taints": [taint]}})
    eventually(lambda: taint in flavor(cluster)["spec"].get("nodeTaints", []), "the flavor carries the taint")
    cluster.patch("v1", "Node", "rights-a", {"spec": {"taints": None}})
    eventually(lambda: "nodeTaints" not in flavor(cluster)["spec"], "and no more without it")

    for step in nodes.repartition(first, nodes.mig_mixed("rights-a", {"3g.40gb": 2}, gpus=1)):
        step.apply(cluster, "rights-a")
    eventually(
        lambda: THREE in json.dumps(cluster.get(KUEUE, "ClusterQueue", "rights")["spec"]), "quota follows"
    )

    # Less of everything: queues, namespaces, nodes.
    cluster.apply(plan("rights", "kueue", kept, pools={"matchNames": [MIXED]}))
    cluster.apply(
        plan("rights-tree", "volcano", {"name": "leaf"}, pools={"matchNames": [SHARES]}, cohort="stem")
    )
    eventually(lambda: not exists(cluster, KUEUE, "LocalQueue", "rights-more", TEAM), "a queue less")
    cluster.delete("batch/v1", "Job", "works", TEAM)
    nodes.cordon(cluster, "rights-b")
    nodes.remove(cluster, "rights-a", "rights-b")
    eventually(lambda: not exists(cluster, KUEUE, "ResourceFlavor", MIXED), "the flavor retires")

    # What gets lost is made anew.
    cluster.delete("v1", "Secret", SECRET, NAMESPACE)
    cluster.delete("coordination.k8s.io/v1", "Lease", LEASE, NAMESPACE)
    for kind in WEBHOOK_KINDS:
        found = cluster.get(REGISTRATIONS, kind, CONFIGURATION)
        for entry in found["webhooks"]:
            entry["clientConfig"].pop("caBundle", None)
        cluster.replace(found)
    eventually(lambda: exists(cluster, "v1", "Secret", SECRET, NAMESPACE), "the authority is back")
    eventually(
        lambda: exists(cluster, "coordination.k8s.io/v1", "Lease", LEASE, NAMESPACE), "so is the lease"
    )
    slicewise.trusted()
    for name in ("rights", "rights-tree"):
        cluster.delete(OWN, "QuotaPlan", name)
    for role in ("controller", "webhook"):
        asyncio.run(said_twice(cluster.kubeconfig_for(account(role)), role))


def account(role: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:slicewise-{role}"


def exists(cluster: KubeClient, version: str, kind: str, name: str, space: str | None = None) -> bool:
    return cluster.find(version, kind, name, space) is not None


def flavor(cluster: KubeClient) -> Object:
    return cluster.get(KUEUE, "ResourceFlavor", MIXED)


def job(name: str) -> Object:
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    labels = {"slicewise.io/workload-class": "inference"}
    metadata = {"name": name, "namespace": TEAM, "labels": labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"suspend": True, "template": template},
    }


async def said_twice(kubeconfig: Path, role: str) -> None:
    """An event that happens again is counted after a minute; here the programs' own recorder does not wait."""
    async with Client.from_kubeconfig(kubeconfig) as client:
        settings = EventSettings(series_interval=0.0)
        recorder = Recorder(client, controller=f"slicewise.io/{role}", instance="story", settings=settings)
        task = asyncio.create_task(recorder.run())
        for number in (1, 2):
            recorder.emit(Regarding("v1", "Node", "rights-a"), "Said", "again", action="JudgeNode")
            while recorder.written < number:
                assert not task.done()
                await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def requests(slicewise: Installation) -> list[Object]:
    """What the two programs asked of the API server, as its log has it."""
    cluster = slicewise.cluster
    assert isinstance(cluster, Cluster)
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    names = {account(role.removeprefix("slicewise-")) for role in ROLES}
    return [event for event in events if event["user"]["username"] in names and "objectRef" in event]


def is_probed(slicewise: Installation) -> bool:
    """Whether both paths of the self-check were tried."""
    tried = {event["objectRef"]["resource"] for event in requests(slicewise) if is_a_probe(event)}
    return {"quotaplans", "podtemplates"} <= tried


def is_a_probe(event: Object) -> bool:
    """The self-check is there to be refused, by the webhook."""
    return _is_probe_told(event, f'.{CONFIGURATION}" denied the request')


def is_past_the_webhook(event: Object) -> bool:
    """The self-check found that the webhook was not asked, as while the story keeps its certificate from it."""
    return _is_probe_told(event, 'cannot create resource "podtemplates"')


def _is_probe_told(event: Object, sentence: str) -> bool:
    return event["objectRef"].get("name") == keys.PROBE and sentence in event["responseStatus"].get(
        "message", ""
    )


def test_nothing_is_refused(slicewise: Installation) -> None:
    refused = [
        (event["user"]["username"], event["verb"], event["objectRef"])
        for event in requests(slicewise)
        if event.get("responseStatus", {}).get("code") == 403
        and not (is_a_probe(event) or is_past_the_webhook(event))
    ]
    assert refused == []
    for replicas in (slicewise.webhook, slicewise.controller):
        assert "403 Forbidden" not in replicas.program.log()


def test_what_is_granted_is_what_is_used(slicewise: Installation) -> None:
    given = list(grants(slicewise.objects))
    assert len(given) > 30

    def unused() -> set[tuple[str, ...]]:
        made = requests(slicewise)
        return {
            (grant.account, grant.verb, grant.group, grant.resource, grant.name)
            for grant in given
            if not any(grant.covers(event) for event in made)
        }

    # The last of the story, plans that go, is answered a moment after it was asked for.
    eventually(lambda: unused() - AFTER_A_CONFLICT == WITHIN_APPLY, "each right was needed")
    made = requests(slicewise)
    uncovered = [event for event in made if not any(grant.covers(event) for grant in given)]
    assert [(event["verb"], event["objectRef"]) for event in uncovered] == []


@pytest.mark.parametrize(("without", "missed"), [("create", [PLAN]), ("patch", [TEMPLATE])])
def test_the_self_check_needs_each_of_its_rights(
    slicewise: Installation, without: str, missed: list[Object]
) -> None:
    """The rights that are asked for within server-side apply, and for no other name.

    Plans may be patched under any name, for their finalizer; made, under the self-check's alone.
    """
    cluster = slicewise.cluster
    own = cluster.client_for(account("controller"))
    rules = cluster.get(RBAC, "ClusterRole", "slicewise-controller")["rules"]
    less = [
        {
            **rule,
            "verbs": [
                verb
                for verb in rule["verbs"]
                if verb != without or keys.PROBE not in rule.get("resourceNames", [])
            ],
        }
        for rule in rules
    ]
    less = [rule for rule in less if rule["verbs"]]
    attempts = {
        id(each): functools.partial(tried, own, each, TEAM if each is TEMPLATE else None)
        for each in (PLAN, TEMPLATE)
    }
    for attempt in attempts.values():
        assert _allowed(attempt)
        assert "is forbidden" in attempt("another").message
    cluster.patch(RBAC, "ClusterRole", "slicewise-controller", {"rules": less})
    try:
        for document in (PLAN, TEMPLATE):
            check = _forbidden if document in missed else _allowed
            eventually(functools.partial(check, attempts[id(document)]), f"{without} is missed")
    finally:
        cluster.patch(RBAC, "ClusterRole", "slicewise-controller", {"rules": rules})
        for attempt in attempts.values():
            eventually(functools.partial(_allowed, attempt), "it is back")


def _forbidden(attempt: Any) -> bool:
    return f'"{keys.PROBE}" is forbidden' in attempt(keys.PROBE).message


def _allowed(attempt: Any) -> bool:
    return f'.{CONFIGURATION}" denied the request' in attempt(keys.PROBE).message


def tried(client: KubeClient, document: Object, space: str | None, name: str) -> Response:
    """The self-check's own request, for an object of some name."""
    path = client.path(document["apiVersion"], document["kind"], name, space)
    item = {**document, "metadata": {**document["metadata"], "name": name}}
    query = {"dryRun": "All", "fieldManager": "slicewise", "force": "true"}
    return client.request("PATCH", path, item, APPLY_PATCH, query)

"""The page's view of a cluster: what the commands print, by key, and no more of it than a browser can take."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from queue_sync.page.model import MOST_LISTED, MOST_NODES, Moment, difference, nodes, used_by_pods, view
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from queue_sync.planning.findings import Finding
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import GPU, ONE, exclusive, look, mixed, plan, read_node, sliced


def moment(*documents: Mapping[str, Any], plans: Any = (), **more: Any) -> Moment:
    pools = Inventory(read_node(each) for each in documents)
    wanted = desired(plans, pools, {}) if plans else ChangeSet()
    shown = {each["metadata"]["name"]: look(each) for each in documents}
    return Moment("test", False, ClusterState(pools, tuple(plans), nodes_read=True), wanted, shown, **more)


def test_a_pool_is_what_its_command_prints_with_what_is_used() -> None:
    now = moment(mixed("a", {"1g.10gb": 7}), mixed("b", {"1g.10gb": 7}), used={("a", ONE): 3})
    (pool,) = now.cluster.pools
    drawn = view(now)[f"pool/{pool.name}"]
    printed = pool.document()
    keys = ("name", "strategy", "model", "sources")
    assert {key: drawn[key] for key in keys} == {key: printed[key] for key in keys}
    assert drawn["sources"] == ["gpu-feature-discovery"]
    assert drawn["nodes"] == len(printed["nodes"])
    (resource,) = drawn["resources"]
    assert {resource["name"]: resource["counted"]} == printed["resources"]
    assert (resource["used"], resource["usable"], resource["shown"]) == (3, 14, 14)


def test_memory_is_shared_by_those_that_take_turns() -> None:
    shown = view(moment(exclusive("a"), sliced("b")))
    shares = {
        each["sharedBy"] for key in shown if key.startswith("pool/") for each in shown[key]["resources"]
    }
    assert shares == {1, 10}


def test_a_node_in_doubt_is_held_back_with_the_reason() -> None:
    kept = {"slicewise.io/offer": json.dumps({"resources": {ONE: 7}, "since": "2026-11-01T00:00:00Z"})}
    now = moment(mixed("a", {"1g.10gb": 7}, ready=False, annotations=kept), mixed("b", {"1g.10gb": 7}))
    (pool,) = now.cluster.pools
    first, second = nodes(now, pool.name)["nodes"]
    assert (first["state"], first["reason"]) == ("held", "the node is not Ready")
    assert {part["state"] for board in first["boards"] for part in board["parts"]} == {"held"}
    assert (second["state"], second["reason"]) == ("counted", "")
    assert view(now)[f"pool/{pool.name}"]["unsettled"] == [{"node": "a", "reason": "the node is not Ready"}]


def test_a_node_of_which_nothing_counts_says_so() -> None:
    now = moment(mixed("a", {"1g.10gb": 7}, ready=False))
    (pool,) = now.cluster.pools
    (node,) = nodes(now, pool.name)["nodes"]
    assert (node["state"], node["reason"]) == ("uncounted", "the node is not Ready")
    assert view(now)["cluster"]["counted"] == 0


def test_nodes_come_in_pages_and_are_found_by_name_and_reason() -> None:
    now = moment(*(exclusive(f"n-{i:03}", ready=i != 7) for i in range(MOST_NODES + 5)))
    (pool,) = now.cluster.pools
    first, rest = nodes(now, pool.name), nodes(now, pool.name, MOST_NODES)
    assert [len(first["nodes"]), len(rest["nodes"])] == [MOST_NODES, 5]
    assert rest["nodes"][0]["name"] == f"n-{MOST_NODES:03}"
    assert [each["name"] for each in nodes(now, pool.name, words="n-009")["nodes"]] == ["n-009"]
    assert [each["name"] for each in nodes(now, pool.name, words="not Ready")["nodes"]] == ["n-007"]
    assert nodes(now, "elsewhere") == {"pool": "elsewhere", "total": 0, "first": 0, "nodes": []}


def test_quotas_are_the_objects_of_the_plan() -> None:
    now = moment(exclusive("a", 8), plans=[plan(queues={"team-a": 3, "team-b": 1})])
    drawn = view(now)["plan/research"]
    units = {queue["name"]: [each["units"] for each in queue["numbers"]] for queue in drawn["queues"]}
    assert units == {
        "team-a": [{"wanted": 6, "standing": None, "used": 0, "offered": 8}],
        "team-b": [{"wanted": 2, "standing": None, "used": 0, "offered": 8}],
    }
    assert not drawn["refused"]


def test_a_volcano_queue_counts_names_over_all_nodes() -> None:
    now = moment(exclusive("a", 8), plans=[plan(engine="volcano", queues={"team-a": 1})])
    (queue,) = view(now)["plan/research"]["queues"]
    assert queue["kind"] == "Queue"
    assert [(each["flavor"], each["resource"], each["units"]["wanted"]) for each in queue["numbers"]] == [
        ("", GPU, 8)
    ]


def test_a_refused_plan_says_why() -> None:
    plans = [plan("one", queues={"team-a": 1}), plan("two", queues={"team-b": 1})]
    drawn = view(moment(exclusive("a"), plans=plans))
    assert not drawn["plan/one"]["refused"]
    assert drawn["plan/two"]["refused"]
    assert drawn["plan/two"]["problems"]


def test_long_lists_are_cut_and_counted() -> None:
    found = [Finding("Pod", "team-a", f"p-{i}", "NameNotOffered", "x") for i in range(MOST_LISTED + 1)]
    drawn = view(moment(drift=found))["drift"]
    assert (drawn["total"], len(drawn["first"])) == (MOST_LISTED + 1, MOST_LISTED)


def test_changes_are_what_nodes_keep_newest_first() -> None:
    def kept(since: str, **more: str) -> dict[str, str]:
        return {"slicewise.io/offer": json.dumps({"resources": {GPU: 8}, "since": since, **more})}

    now = moment(
        exclusive("old", annotations=kept("2026-11-01T00:00:00Z")),
        exclusive(
            "new", ready=False, annotations=kept("2026-11-02T00:00:00Z", heldSince="2026-11-03T00:00:00Z")
        ),
        exclusive("silent"),
    )
    offers = f"offers {GPU}=8 in h100-80gb-exclusive"
    assert [(each["node"], each["words"]) for each in view(now)["changes"]] == [
        ("new", "held back: the node is not Ready"),
        ("new", offers),
        ("old", offers),
    ]


def test_a_difference_is_what_changed_and_what_is_gone() -> None:
    before = view(moment(exclusive("a"), sliced("t")))
    after = view(moment(exclusive("a", 4)))
    changed = difference(before, after)
    assert changed["pool/t4-time-slicing-x10"] is None
    assert changed["pool/h100-80gb-exclusive"]["resources"][0]["counted"] == 4
    assert "changes" not in changed
    assert difference(after, after) == {}


def test_the_revision_changes_with_what_is_drawn_of_nodes() -> None:
    def revision(now: Moment) -> str:
        return str(view(now)["pool/h100-80gb-exclusive"]["revision"])

    plain = revision(moment(exclusive("a")))
    assert plain == revision(moment(exclusive("a")))
    others = (moment(exclusive("b")), moment(exclusive("a"), used={("a", GPU): 1}), moment(exclusive("a", 4)))
    assert plain not in {revision(each) for each in others}


def container(number: int, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"limits": {GPU: str(number), "cpu": "1"}}, **more}


@pytest.mark.parametrize(
    ("spec", "phase", "expected"),
    [
        ({"nodeName": "a", "containers": [container(1), container(2)]}, "Running", {("a", GPU): 3}),
        ({"nodeName": "a", "containers": [container(1)]}, "Succeeded", {}),
        ({"containers": [container(1)]}, "Pending", {}),
        (
            {"nodeName": "a", "containers": [container(1)], "initContainers": [container(4)]},
            "Running",
            {("a", GPU): 4},
        ),
        (
            {
                "nodeName": "a",
                "containers": [container(1)],
                "initContainers": [container(1, restartPolicy="Always")],
            },
            "Running",
            {("a", GPU): 2},
        ),
        ({"nodeName": "a", "containers": [{"name": "c"}]}, "Running", {}),
    ],
)
def test_use_is_what_pods_on_nodes_ask_for(
    spec: dict[str, Any], phase: str, expected: dict[tuple[str, str], int]
) -> None:
    assert used_by_pods([{"spec": spec, "status": {"phase": phase}}]) == expected


def test_the_files_of_a_browser_name_nobody_else() -> None:
    folder = Path(__file__).parents[2] / "queue_sync/page/static"
    for file in ("page.html", "page.css", "page.js"):
        assert "http" not in (folder / file).read_text()

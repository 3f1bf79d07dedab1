"""Work goes to pools of its own engine: what plans give to the other is nobody else's."""

import json
from copy import deepcopy
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.decision.cluster_state import ClusterState
from admission.engines.queueing import Named, engine_of
from admission.mutation.mutate import mutate
from admission.workloads.decoder import Templates
from admission.workloads.kind import Kind
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan, read_plan
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.plan_selection import elsewhere
from slicewise.inventory.pools import Inventory
from tests.admission.building import (
    GPU,
    NODES,
    SLICE,
    Object,
    container,
    created,
    deployment,
    devices,
    pod,
    pod_spec,
    review,
    world,
)
from tests.admission.generating import FLEETS, POLICY, items
from tests.admission.kinds import manifest, put
from tests.admission.test_explaining import told
from tests.inventory.nodes import MIXED, Shape, slices, whole

A100: Final = "NVIDIA-A100-SXM4-80GB"
FOR_VOLCANO, FOR_KUEUE = "a100-80gb-mig-mixed", "h100-80gb-mig-mixed"
# One offers what the other does, and more of it, so that it would be chosen by everybody.
LARGER: Final = Shape(
    {**MIXED, **whole(A100, 8, 81920, replicas=0), **slices(A100, "1g.10gb", 56, 9984)},
    {"mig-1g.10gb": 56},
    FOR_VOLCANO,
    Strategy.MIG,
    {},
)


def plan(
    engine: str, *globs: str, name: str = "", mode: str = "write", strategies: tuple[str, ...] = ()
) -> QuotaPlan:
    pools: Object = {"matchNames": list(globs)} | (
        {"matchStrategies": list(strategies)} if strategies else {}
    )
    spec = {"engine": engine, "pools": pools, "mode": mode, "queues": [{"name": "fast"}]}
    metadata = {"name": name or f"of-{engine}"}
    return read_plan(
        {"apiVersion": "slicewise.io/v1alpha1", "kind": "QuotaPlan", "metadata": metadata, "spec": spec}
    )


DIVIDED: Final = (plan("kueue", "h100-*"), plan("volcano", "a100-*"))


def known(*plans: QuotaPlan, nodes: tuple[str, ...] = ("mixed",), **labels: str) -> ClusterState:
    """Two pools with the same slices, and a namespace with these labels of ours."""
    shapes = [NODES[name] for name in nodes] + [LARGER]
    inventory = Inventory(shape.node(f"n{index}") for index, shape in enumerate(shapes))
    named = {keys.PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    spaces = {"team": {keys.POLICY: "default", keys.WORKLOAD_CLASS: "inference", **named}}
    return ClusterState(spaces, {}, inventory, plans={each.name: each for each in plans})


# --- Who queues it ----------------------------------------------------------------------------------------

RAY, SPARK = "ray.io_RayCluster", "sparkoperator.k8s.io_SparkApplication"
SAID: Final[dict[str, tuple[Object, dict[str, str], Engine | None]]] = {
    "nobody says": (pod(), {}, None),
    "the namespace": (pod(), {keys.ENGINE: "volcano"}, Engine.VOLCANO),
    "the namespace, none": (pod(), {keys.ENGINE: "none", keys.QUEUE: "fast"}, None),
    "the namespace, a word that means nothing": (pod(), {keys.ENGINE: "slurm"}, None),
    "the namespace names a queue, which is Kueue's unless said": (pod(), {keys.QUEUE: "fast"}, Engine.KUEUE),
    "the workload's label": (
        pod(metadata={"labels": {keys.KUEUE_QUEUE: "x"}}),
        {keys.ENGINE: "volcano"},
        Engine.KUEUE,
    ),
    "the workload's scheduler": (pod(schedulerName="volcano"), {keys.ENGINE: "kueue"}, Engine.VOLCANO),
    "both": (pod(metadata={"labels": {keys.KUEUE_QUEUE: "x"}}, schedulerName="volcano"), {}, None),
    "another scheduler": (pod(schedulerName="own"), {keys.ENGINE: "kueue"}, Engine.KUEUE),
    "its kind": (manifest("batch.volcano.sh_Job"), {keys.ENGINE: "kueue"}, Engine.VOLCANO),
    "its kind's label": (manifest(RAY, labels={"volcano.sh/queue-name": "x"}), {}, Engine.VOLCANO),
    "its kind's scheduler": (put(manifest(SPARK), "spec.batchScheduler", "volcano"), {}, Engine.VOLCANO),
    "its kind's other scheduler": (put(manifest(SPARK), "spec.batchScheduler", "yunikorn"), {}, None),
    "its kind's queue": (
        put(manifest("kubeflow.org_PyTorchJob"), "spec.runPolicy.schedulingPolicy.queue", "x"),
        {},
        Engine.VOLCANO,
    ),
    "its kind's queue, by a name that no definition fills in there": (
        put(manifest("kubeflow.org_PyTorchJob"), "spec.runPolicy.schedulingPolicy.queue", "default"),
        {},
        Engine.VOLCANO,
    ),
    "its kind's queue, empty": (
        put(manifest("kubeflow.org_PyTorchJob"), "spec.runPolicy.schedulingPolicy.queue", ""),
        {},
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("item", "labels", "engine"), SAID.values(), ids=SAID)
def test_who_queues_it(item: Object, labels: dict[str, str], engine: Engine | None) -> None:
    reader = Templates().reader(item["apiVersion"].rpartition("/")[0], item["kind"])
    assert reader is not None
    workload = reader.read(json.dumps(item).encode(), "team")
    assert engine_of(Named(workload), labels) == engine


# --- Whose pools are whose --------------------------------------------------------------------------------

GIVEN: Final[dict[str, tuple[tuple[QuotaPlan, ...], dict[str, Engine]]]] = {
    "no plan": ((), {}),
    "by name": ((plan("volcano", "a100-*"),), {FOR_VOLCANO: Engine.VOLCANO}),
    "by strategy": ((plan("volcano", "a100-*", strategies=("mig",)),), {FOR_VOLCANO: Engine.VOLCANO}),
    "by a strategy that it has not": ((plan("volcano", "a100-*", strategies=("mps",)),), {}),
    "one each": (DIVIDED, {FOR_VOLCANO: Engine.VOLCANO, FOR_KUEUE: Engine.KUEUE}),
    "every pool by name": ((plan("kueue", "*"),), {FOR_VOLCANO: Engine.KUEUE, FOR_KUEUE: Engine.KUEUE}),
    "whatever there is": ((plan("kueue"),), {}),
    "to both, so to nobody": ((plan("kueue", "*"), plan("volcano", "a100-*")), {FOR_KUEUE: Engine.KUEUE}),
    "twice to one": ((plan("kueue", "h100-*"), plan("kueue", "h100-*", name="b")), {FOR_KUEUE: Engine.KUEUE}),
    "one that only reports": ((plan("volcano", mode="report"),), {}),
}  # fmt: skip


@pytest.mark.parametrize(("plans", "owners"), GIVEN.values(), ids=GIVEN)
def test_whose_pools_are_whose(plans: tuple[QuotaPlan, ...], owners: dict[str, Engine]) -> None:
    found = elsewhere(plans, known().all_pools())
    others = {each: {pool for pool, owner in owners.items() if owner is not each} for each in Engine}
    assert {engine: set(pools) for engine, pools in found.items()} == {e: p for e, p in others.items() if p}
    assert {words for pools in found.values() for words in pools.values()} <= {
        "QuotaPlan of-kueue gives to Kueue",
        "QuotaPlan b gives to Kueue",
        "QuotaPlan of-volcano gives to Volcano",
    }


# --- What becomes of a request ----------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{}, {"queue": "fast"}], ids=["no queue", "a queue of the plans"])
@pytest.mark.parametrize(("engine", "pool"), [("kueue", FOR_KUEUE), ("volcano", FOR_VOLCANO)])
def test_the_same_request_goes_to_its_own_engines_pool_and_is_kept_there(
    engine: str, pool: str, labels: dict[str, Any]
) -> None:
    item = created(known(*DIVIDED, engine=engine, **labels), deployment())
    assert devices(item) == {"main": {SLICE: "1"}}
    assert pool in str(pod_spec(item)["affinity"])
    assert ({FOR_KUEUE, FOR_VOLCANO} - {pool}).pop() not in str(item)
    # The pods of it, and the manifest applied again, are as they were.
    assert review(known(*DIVIDED, engine=engine, **labels), deployment(), item).item == item


@pytest.mark.parametrize("engine", [{}, {"engine": "none"}, {"engine": "none", "queue": "x"}], ids=str)
def test_where_the_engine_is_not_known_nothing_narrows(engine: dict[str, Any]) -> None:
    divided = review(known(*DIVIDED, **engine), deployment())
    assert divided.item == review(known(**engine), deployment()).item
    assert divided.decision["pools"] == [FOR_VOLCANO, FOR_KUEUE]


def test_a_workload_that_says_its_engine_itself_is_believed() -> None:
    item = deployment(schedulerName="volcano")
    assert review(known(*DIVIDED, engine="kueue"), item).decision["pools"] == [FOR_VOLCANO]


def test_what_only_the_other_engine_has_counts_as_offered_by_nobody() -> None:
    kueue = known(plan("volcano", "*-mig-*"), nodes=("mixed", "whole"), engine="kueue")
    answered = review(kueue, deployment())
    assert devices(answered.item) == {"main": {GPU: "1"}}
    assert answered.decision["reason"] == (
        "class inference gets exclusive (mig: offered by a100-80gb-mig-mixed, h100-80gb-mig-mixed alone, which "
        "QuotaPlan of-volcano gives to Volcano); the smallest offered is a whole GPU"
    )


def test_a_refusal_says_which_plan_has_the_pools_and_what_to_do() -> None:
    everything = known(plan("volcano", "*"), engine="kueue")
    assert review(everything, deployment()).message == (
        "Deployment team/serve: no pool can serve class inference of policy default (mig: offered by "
        "a100-80gb-mig-mixed, h100-80gb-mig-mixed alone, which QuotaPlan of-volcano gives to Volcano; exclusive: no "
        "pool offers it); submit it where slicewise.io/engine is that engine, have a QuotaPlan give such a pool to "
        "Kueue, or ask whoever keeps the cluster"
    )


def test_more_than_one_that_only_the_other_engine_has_whole() -> None:
    kueue = known(plan("volcano", "*-exclusive"), nodes=("mixed", "whole"), engine="kueue")
    assert (
        "exclusive: offered by h100-80gb-exclusive alone"
        in review(kueue, deployment(container(gpus=2))).message
    )


def test_the_pods_own_selector_is_told_from_the_plan() -> None:
    here = deployment(nodeSelector={keys.POOL: FOR_VOLCANO})
    assert f"mig: offered by {FOR_VOLCANO} alone" in review(known(*DIVIDED, engine="kueue"), here).message
    nowhere = deployment(nodeSelector={keys.POOL: "none-such"})
    message = review(known(*DIVIDED, engine="kueue"), nowhere).message
    assert "the pod's own nodeSelector or affinity matches no node of any pool" in message
    assert "QuotaPlan" not in message


def test_a_place_that_cannot_be_steered_is_refused_rather_than_let_across() -> None:
    bare = Kind("ml.example.com", "Bare", ("R spec.resources=main",))
    reader = Templates(more=(bare,)).reader("ml.example.com", "Bare")
    assert reader is not None
    body = b'{"metadata": {"name": "x"}, "spec": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}'
    assert mutate(reader, body, None, "team", known(engine="kueue")).name == "rewritten"
    refused = mutate(reader, body, None, "team", known(*DIVIDED, engine="kueue"))
    assert f"that could keep its pods from {FOR_VOLCANO}" in refused.refusal


def test_it_follows_the_plans() -> None:
    changing = known(engine="kueue")
    assert review(changing, deployment()).decision["pools"] == [FOR_VOLCANO, FOR_KUEUE]
    changing.plans = {each.name: each for each in DIVIDED}
    changing.replanned()
    assert review(changing, deployment()).decision["pools"] == [FOR_KUEUE]
    changing.plans = {}
    changing.replanned()
    assert review(changing, deployment()).decision["pools"] == [FOR_VOLCANO, FOR_KUEUE]


def test_explain_says_whose_the_pools_are() -> None:
    lines = told(known(*DIVIDED, engine="kueue"), deployment())
    assert "  engine      kueue" in lines
    assert f"    cannot serve: {FOR_VOLCANO} (mig: it is what QuotaPlan of-volcano gives to Volcano)" in lines
    assert not [line for line in told(known(engine="kueue"), deployment()) if line.startswith("  engine")]


def fleet(*names: str, plans: tuple[QuotaPlan, ...] = (), **labels: Any) -> ClusterState:
    found = world(*names, labels=labels, policies=(POLICY,))
    found.plans = {each.name: each for each in plans}
    return found


IRRELEVANT = st.sampled_from(
    [
        {},
        {keys.ENGINE: "none"},
        {keys.ENGINE: "kueue", keys.QUEUE: "fast"},
        {keys.ENGINE: "volcano", keys.QUEUE: "fast"},
    ]
)
UNGIVEN = st.sampled_from(
    [(), (plan("volcano", mode="report"),), (plan("volcano"), plan("kueue")), (plan("kueue"),)]
)


@given(items(), FLEETS, IRRELEVANT, UNGIVEN)
def test_where_no_plan_gives_anybody_anything_every_answer_is_the_same(
    item: Object, names: tuple[str, ...], labels: dict[str, Any], plans: tuple[QuotaPlan, ...]
) -> None:
    without = review(fleet(*names, **labels), deepcopy(item))
    beside = review(fleet(*names, plans=plans, **labels), deepcopy(item))
    assert beside.raw.body == without.raw.body


@given(
    items(), FLEETS, st.sampled_from(["kueue", "volcano"]), st.sampled_from(["*-mig-*", "*-exclusive", "*"])
)
def test_nothing_is_ever_steered_to_the_other_engines_pools(
    item: Object, names: tuple[str, ...], engine: str, glob: str
) -> None:
    other = "volcano" if engine == "kueue" else "kueue"
    divided = fleet(*names, plans=(plan(other, glob),), **{keys.ENGINE: engine})
    answered = review(divided, deepcopy(item))
    if answered.allowed and answered.outcome == "rewritten":
        theirs = set(divided.elsewhere(Engine(engine)))
        assert not theirs & set(answered.decision["pools"])
        asked = {name for amounts in devices(answered.item).values() for name in amounts}
        shared = {
            pool.name for pool in divided.all_pools() if pool.name in theirs and asked & pool.resources.keys()
        }
        assert not shared or keys.POOL in str(pod_spec(answered.item))

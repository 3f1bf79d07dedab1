"""A template as it should be, and the difference to it."""

import json
from copy import deepcopy
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.decision.gpu_requests import gpu_requests
from admission.decision.model import Assigned, Decision
from admission.mutation import changes
from admission.mutation.desired import desired, undecided
from admission.mutation.difference import difference, template_difference
from admission.workloads.decoder import Reader, Templates
from admission.workloads.model import Expression, PodSpec, Template, Term, Toleration, Variable
from slicewise.api import keys
from slicewise.inventory.allocation import NodeLabel
from tests.admission.building import container, pod
from tests.admission.generating import items

SLICE = "nvidia.com/mig-1g.10gb"
DECISION = Decision("default", "inference", "label", "mig", ("small", "large"), {}, "because", steered=True)


def decision(template: Template, to: str, count: int = 1, **fields: Any) -> Decision:
    """One that gives every container of a template the same."""
    containers = {
        each.container.name: Assigned(keys.GPU, to, count, each.gpus)
        for each in gpu_requests(template.spec)
        if each.gpus
    }
    return msgspec.structs.replace(DECISION, containers=containers, **fields)


def read(item: Any) -> Template:
    """The only template of an object."""
    reader = Templates().reader(
        item["apiVersion"].rpartition("/")[0] if "/" in item["apiVersion"] else "", item["kind"]
    )
    assert isinstance(reader, Reader)
    return reader.read(json.dumps(item).encode(), "team").templates[0]


def made(template: Template, chosen: Decision, former: Decision | None = None) -> Template:
    """The template as a decision has it."""
    gets = changes.given(template, gpu_requests(template.spec), chosen, {})
    return desired(template, gets, chosen, former)


@given(
    item=items(),
    to=st.sampled_from([SLICE, keys.GPU, keys.GPU_SHARED]),
    count=st.integers(1, 8),
    steered=st.booleans(),
    labels=st.sampled_from([(), (NodeLabel(keys.PRODUCT, "In", ("A100",)),)]),
    directory=st.sampled_from(["", "/run/mps"]),
)
def test_what_is_desired_of_the_desired_is_the_same(
    item: Any, to: str, count: int, *, steered: bool, labels: tuple[NodeLabel, ...], directory: str
) -> None:
    template = read(item)
    chosen = decision(template, to, count, steered=steered, node_labels=labels, pipe_directory=directory)
    once = made(template, chosen)
    assert template_difference(once, made(once, chosen)) == []


@given(item=items(), to=st.sampled_from([SLICE, keys.GPU_SHARED]), steered=st.booleans())
def test_the_patch_makes_of_the_object_what_is_desired(item: Any, to: str, *, steered: bool) -> None:
    template = read(item)
    wanted = made(template, decision(template, to, steered=steered))
    patched = jsonpatch.apply_patch(deepcopy(item), template_difference(template, wanted))
    assert read(patched).spec == wanted.spec


@given(item=items(), former=st.booleans(), now=st.booleans())
def test_what_a_former_decision_wrote_gives_way(item: Any, *, former: bool, now: bool) -> None:
    template = read(item)
    before = decision(template, SLICE, steered=former, pools=("old", "older"))
    after = decision(template, SLICE, steered=now)
    assert made(made(template, before), after, before).spec.affinity == made(template, after).spec.affinity


def test_a_decision_that_is_taken_back_leaves_no_steering() -> None:
    template = read(pod(container()))
    before = decision(template, SLICE)
    left = undecided(made(template, before), {}, before)
    patched = jsonpatch.apply_patch(
        jsonpatch.apply_patch(pod(container()), template_difference(template, made(template, before))),
        template_difference(made(template, before), left),
    )
    affinity = patched["spec"]["affinity"]["nodeAffinity"]
    assert affinity == {"preferredDuringSchedulingIgnoredDuringExecution": []}


SPEC = PodSpec(
    tolerations=[Toleration("a", "Exists"), Toleration("b", "Exists")],
    node_selector={"zone": "1", "a/b": "c"},
)


@pytest.mark.parametrize(
    ("after", "operations"),
    [
        pytest.param({}, [], id="nothing changed"),
        pytest.param(
            {"tolerations": [SPEC.tolerations and SPEC.tolerations[1], Toleration("c", "Exists")]},
            [
                {"op": "remove", "path": "/spec/tolerations/0"},
                {"op": "add", "path": "/spec/tolerations/-", "value": {"key": "c", "operator": "Exists"}},
            ],
            id="an item goes, and another comes at the end",
        ),
        pytest.param(
            {"tolerations": None}, [{"op": "remove", "path": "/spec/tolerations"}], id="a member goes"
        ),
        pytest.param(
            {"node_selector": {"zone": "2"}},
            [
                {"op": "remove", "path": "/spec/nodeSelector/a~1b"},
                {"op": "add", "path": "/spec/nodeSelector/zone", "value": "2"},
            ],
            id="a map changes by key",
        ),
        pytest.param(
            {"host_ipc": True}, [{"op": "add", "path": "/spec/hostIPC", "value": True}], id="a member comes"
        ),
    ],
)
def test_the_difference_of_two_pods(after: dict[str, Any], operations: list[Any]) -> None:
    assert difference(SPEC, msgspec.structs.replace(SPEC, **after), "/spec") == operations


def test_a_term_changes_where_it_stands() -> None:
    zone = Expression("zone", "In", ["1"])
    before, after = [Term([zone]), Term()], [Term([zone, Expression("x", "Exists")]), Term()]
    added = {"op": "add", "path": "/0/matchExpressions/-", "value": {"key": "x", "operator": "Exists"}}
    assert difference(before, after) == [added]


def test_items_that_are_read_in_part_are_never_made_into_others() -> None:
    secret, seen = Variable("TOKEN"), Variable("B", "b")
    assert difference([secret, seen], [seen, Variable("C", "c")]) == [
        {"op": "remove", "path": "/0"},
        {"op": "add", "path": "/-", "value": {"name": "C", "value": "c"}},
    ]


def test_plain_items_are_replaced_where_they_stand() -> None:
    assert difference({"a": ["x", {"b": "c"}, "z"]}, {"a": ["y", {"b": "d"}]}) == [
        {"op": "replace", "path": "/a/0", "value": "y"},
        {"op": "add", "path": "/a/1/b", "value": "d"},
        {"op": "remove", "path": "/a/2"},
    ]

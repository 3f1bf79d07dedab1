"""Which nodes a pod's own nodeSelector, nodeName and required node affinity leave.

Semantics of `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`: terms are alternatives, a term
without requirements matches nothing, NotIn and DoesNotExist match an absent label.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from admission.workloads.model import Expression, PodSpec, Term
from slicewise.api import keys
from slicewise.inventory.allocation import NodeFilter, NodeLabel
from slicewise.inventory.declared_pools import not_yet
from slicewise.inventory.node_state import CountedNode

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,63}")
"""No longer than a label is."""


def narrowing(spec: PodSpec) -> NodeFilter | None:
    """Returns what the pod itself leaves of the nodes; None when it says nothing about where it may run."""
    terms = required_terms(spec)
    if not spec.node_name and not spec.node_selector and terms is None:
        return None
    return NodeFilter(_Selector(spec, terms).allows, spec.node_name or "")


def required_terms(spec: PodSpec) -> Sequence[Term] | None:
    """Returns the alternatives of required node affinity; None when there is none."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required if affinity else None
    return None if required is None else required.node_selector_terms or ()


def requirement_count(spec: PodSpec) -> int:
    """Returns how many things a pod asks of its node, in all alternatives together: each is held against each node, and
    so is an alternative that asks nothing. What Slicewise writes into each is left out: the pod comes again with it.
    """
    asked = [max(_own_count(term), 1) for term in required_terms(spec) or ()]
    return sum(asked) + len(spec.node_selector or ())


def _own_count(term: Term) -> int:
    expressions = term.match_expressions or ()
    ours = {each.key for each in expressions} & {keys.POOL, keys.PRODUCT}
    return len(expressions) + len(term.match_fields or ()) - len(ours)


def labelled(labels: Sequence[NodeLabel]) -> Callable[[CountedNode], bool]:
    """Returns what tells whether a node is as labels ask for that Slicewise writes into a pod."""
    wanted = _read([Expression(each.key, each.operator, [*each.values]) for each in labels])
    return lambda node: all(_meets(each, _label(node, each.key)) for each in wanted)


class _Requirement:
    """One requirement, with its values made ready for many nodes."""

    def __init__(self, expression: Expression) -> None:
        values = expression.values or []
        self.key = expression.key
        self.operator = expression.operator
        self.values = frozenset(values)
        self.bound = _number(values[0]) if values and expression.operator in {"Gt", "Lt"} else None
        """What Gt and Lt compare with; None where it is no number."""


class _Selector:
    """What one pod asks of its node. A node is looked at once, however often it is asked for."""

    def __init__(self, spec: PodSpec, terms: Sequence[Term] | None) -> None:
        self._name, self._selector = spec.node_name, spec.node_selector or {}
        self._terms = (
            None if terms is None else [(_read(t.match_expressions), _read(t.match_fields)) for t in terms]
        )
        self._known: dict[tuple[str, str], bool] = {}

    def allows(self, node: CountedNode) -> bool:
        """True when the pod may run there."""
        place = (node.pool, node.name)
        if (found := self._known.get(place)) is None:
            found = self._known[place] = self._allows(node)
        return found

    def _allows(self, node: CountedNode) -> bool:
        """Of a node that has not come yet the pool alone is known: other labels may be what the pod asks for."""
        if self._name and self._name != node.name:
            return False
        partly = not_yet(node)
        for key, value in self._selector.items():
            if _label(node, key) != value and _is_known(node, key, partly=partly):
                return False
        return self._terms is None or any(_matches(*term, node, partly=partly) for term in self._terms)


def _label(node: CountedNode, key: str) -> str | None:
    """Returns one label of a node, which has its pool's whether that was written yet or not; no map is made for it,
    as there may be thousands of nodes."""
    return node.pool if key == keys.POOL else node.labels.get(key)


def _is_known(node: CountedNode, key: str, *, partly: bool) -> bool:
    return not partly or _label(node, key) is not None


def _read(expressions: Sequence[Expression] | None) -> list[_Requirement]:
    return [_Requirement(each) for each in expressions or ()]


def _number(text: str) -> int | None:
    """Reads what Go's strconv.ParseInt does: Python's `int` takes spaces, underscores and other digits too."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _matches(
    expressions: Sequence[_Requirement], fields: Sequence[_Requirement], node: CountedNode, *, partly: bool
) -> bool:
    if not expressions and not fields:
        return False
    for each in expressions:
        if not _meets(each, _label(node, each.key)) and _is_known(node, each.key, partly=partly):
            return False
    return all(each.key == "metadata.name" and _meets(each, node.name) for each in fields)


def _meets(requirement: _Requirement, value: str | None) -> bool:
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            number = None if value is None else _number(value)
            if number is None or requirement.bound is None:
                return False
            return number > requirement.bound if operator == "Gt" else number < requirement.bound
        case _:
            return False

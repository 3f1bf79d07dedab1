"""Which nodes a pod's own nodeSelector, nodeName and required node affinity leave.

Semantics of `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`: terms are alternatives, a term
without requirements matches nothing, NotIn and DoesNotExist match an absent label.
"""

from collections.abc import Mapping, Sequence

from admission.workloads.model import Expression, PodSpec, Term
from slicewise.api import keys
from slicewise.inventory.allocation import NodeFilter
from slicewise.inventory.declared_pools import not_yet
from slicewise.inventory.node_state import CountedNode


def narrowing(spec: PodSpec) -> NodeFilter | None:
    """Returns what the pod itself leaves of the nodes; None when it says nothing about where it may run."""
    if not spec.node_name and not spec.node_selector and required_terms(spec) is None:
        return None
    return NodeFilter(lambda node: _allows(spec, node), spec.node_name or "")


def required_terms(spec: PodSpec) -> Sequence[Term] | None:
    """Returns the alternatives of required node affinity; None when there is none."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required if affinity else None
    return None if required is None else required.node_selector_terms or ()


def _allows(spec: PodSpec, node: CountedNode) -> bool:
    """Of a node that has not come yet the pool alone is known: other labels may be what the pod asks for."""
    if spec.node_name and spec.node_name != node.name:
        return False
    labels = {**node.labels, keys.POOL: node.pool}
    known = labels if not_yet(node) else None
    selector = spec.node_selector or {}
    if any(labels.get(key) != value for key, value in selector.items() if known is None or key in known):
        return False
    terms = required_terms(spec)
    return terms is None or any(_matches(term, node.name, labels, known) for term in terms)


def _matches(term: Term, name: str, labels: Mapping[str, str], known: Mapping[str, str] | None) -> bool:
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not fields:
        return False
    return all(
        _meets(each, labels.get(each.key)) for each in expressions if known is None or each.key in known
    ) and all(each.key == "metadata.name" and _meets(each, name) for each in fields)


def _meets(expression: Expression, value: str | None) -> bool:
    values = expression.values or []
    match expression.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
        case _:
            return False

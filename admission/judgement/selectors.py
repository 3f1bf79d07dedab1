"""Which nodes a pod's own nodeSelector, nodeName and required node affinity leave.

Semantics of `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`: terms are alternatives, a term
without requirements matches nothing, NotIn and DoesNotExist match an absent label.
"""

from collections.abc import Mapping, Sequence

from admission.kinds.reading import Expression, PodSpec, Term
from slicewise.api import keys
from slicewise.inventory.allocation import NodeFilter


def narrowing(spec: PodSpec) -> NodeFilter | None:
    """Returns what the pod itself leaves of the nodes; None when it says nothing about where it may run."""
    if not spec.node_name and not spec.node_selector and required_terms(spec) is None:
        return None
    return NodeFilter(
        lambda node: _allows(spec, node.name, {**node.labels, keys.POOL: node.pool}), spec.node_name or ""
    )


def required_terms(spec: PodSpec) -> Sequence[Term] | None:
    """Returns the alternatives of required node affinity; None when there is none."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required if affinity else None
    return None if required is None else required.node_selector_terms or ()


def _allows(spec: PodSpec, name: str, labels: Mapping[str, str]) -> bool:
    if spec.node_name and spec.node_name != name:
        return False
    if any(labels.get(key) != value for key, value in (spec.node_selector or {}).items()):
        return False
    terms = required_terms(spec)
    return terms is None or any(_matches(term, name, labels) for term in terms)


def _matches(term: Term, name: str, labels: Mapping[str, str]) -> bool:
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not fields:
        return False
    return all(_meets(e, labels.get(e.key)) for e in expressions) and all(
        f.key == "metadata.name" and _meets(f, name) for f in fields
    )


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

"""The node affinity by which a pod is kept to pools: what it says, and how it should read.  Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from admission.decision.model import Decision
from admission.decision.node_selector import required_terms
from admission.workloads.model import Affinity, Expression, NodeAffinity, NodeSelector, PodSpec, Term
from slicewise.api import keys
from slicewise.inventory.allocation import NodeLabel

_NO_AFFINITY = NodeAffinity()


def requirements(pools: Iterable[str], labels: Iterable[NodeLabel]) -> list[Expression]:
    """Returns what keeps a pod to pools, and to the nodes of them that fit."""
    return [
        Expression(keys.POOL, "In", [*pools]),
        *[Expression(each.key, each.operator, [*each.values]) for each in labels],
    ]


def pools_of(spec: PodSpec) -> tuple[str, ...]:
    """Returns the pools that a pod's required affinity names anywhere."""
    return tuple(
        dict.fromkeys(
            name
            for term in required_terms(spec) or ()
            for each in term.match_expressions or ()
            if each.key == keys.POOL and each.operator == "In"
            for name in each.values or ()
        )
    )


def steered_to(spec: PodSpec, pools: Iterable[str], labels: Iterable[NodeLabel] = ()) -> bool:
    """True when every alternative of the pod's required affinity that can match keeps it within the pools, and to
    nodes with such labels."""
    live = [term for term in required_terms(spec) or () if term.match_expressions or term.match_fields]
    names = frozenset(pools)
    return bool(live) and all(
        _within(term, names) and all(_label_at(term, label) for label in labels) for term in live
    )


def steered(spec: PodSpec, decision: Decision, former: Decision | None = None) -> PodSpec:
    """Returns the pod kept to the pools of a decision in every alternative of its required affinity; what kept it to
    the pools of a `former` decision is replaced."""
    wanted, names = requirements(decision.pools, decision.node_labels), frozenset(decision.pools)
    terms = [_steered_term(term, decision, names, wanted, former) for term in required_terms(spec) or ()]
    return _with_terms(spec, terms or [Term(wanted)])


def _steered_term(
    term: Term,
    decision: Decision,
    names: frozenset[str],
    wanted: Sequence[Expression],
    former: Decision | None,
) -> Term:
    if not term.match_expressions and not term.match_fields:
        return term  # matches nothing; a requirement would make it match something
    stays = _within(term, names)
    stale = [] if former is None else [*({*former.node_labels} - {*decision.node_labels})]
    gone = {index for label in stale for index in _label_at(term, label)}
    if not stays and former is not None and former.steered:
        gone.update(_pools_at(term, former.pools))
    kept = [each for index, each in enumerate(term.match_expressions or ()) if index not in gone]
    missing = [
        expression
        for label, expression in zip(decision.node_labels, wanted[1:], strict=True)
        if not _label_at(term, label)
    ]
    added = [*(() if stays else wanted[:1]), *missing]
    if not added and len(kept) == len(term.match_expressions or ()):
        return term
    return Term([*kept, *added], term.match_fields)


def unsteered(spec: PodSpec, former: Decision) -> PodSpec:
    """Returns the pod without what kept it to the pools of an earlier decision."""
    terms = required_terms(spec) or ()
    freed = [_unsteered_term(term, former) for term in terms]
    if all(new is old for new, old in zip(freed, terms, strict=True)):
        return spec
    # Alternatives without requirements match nothing.
    return _with_terms(
        spec, freed if any(term.match_expressions or term.match_fields for term in freed) else None
    )


def _unsteered_term(term: Term, former: Decision) -> Term:
    ours = _pools_at(term, former.pools)
    if not ours:
        return term  # the pools are the sign that the rest is ours too
    gone = {*ours, *(index for label in former.node_labels for index in _label_at(term, label))}
    rest = [each for index, each in enumerate(term.match_expressions or ()) if index not in gone]
    return Term(rest, term.match_fields)


def preferring(spec: PodSpec, pools: Sequence[str], former: Sequence[str] = ()) -> PodSpec:
    """Returns the pod preferring its pools in their order; what it preferred by a `former` decision goes."""
    present = _node_affinity(spec).preferred
    wanted = _preferences(pools)
    if not isinstance(present, list):
        return _with_node_affinity(spec, preferred=wanted) if wanted else spec
    ours = [*wanted, *_preferences(former)]
    if [each for each in present if each in ours] == wanted:
        return spec
    return _with_node_affinity(spec, preferred=[*(each for each in present if each not in ours), *wanted])


def _preferences(pools: Sequence[str]) -> list[Any]:
    """The first pool weighs 100, the last nothing."""
    last = len(pools) - 1
    return [
        {
            "weight": max(1, 100 * (last - index) // last),
            "preference": {"matchExpressions": [msgspec.to_builtins(Expression(keys.POOL, "In", [pool]))]},
        }
        for index, pool in enumerate(pools[:-1])
    ]


def _within(term: Term, pools: frozenset[str]) -> bool:
    """True when one alternative of a pod's affinity says itself that it stays within the pools."""
    return any(
        each.key == keys.POOL and each.operator == "In" and pools.issuperset(each.values or ())
        for each in term.match_expressions or ()
    )


def _pools_at(term: Term, pools: Sequence[str]) -> list[int]:
    """Returns where an alternative has the requirement that a decision for these pools put there."""
    return _at(term, keys.POOL, "In", tuple(pools)) if pools else []


def _label_at(term: Term, label: NodeLabel) -> list[int]:
    return _at(term, label.key, label.operator, label.values)


def _at(term: Term, key: str, operator: str, values: tuple[str, ...]) -> list[int]:
    """Returns every place: a merge may have said the same twice."""
    return [
        index
        for index, each in enumerate(term.match_expressions or ())
        if each.key == key and each.operator == operator and tuple(each.values or ()) == values
    ]


def _node_affinity(spec: PodSpec) -> NodeAffinity:
    return (spec.affinity and spec.affinity.node_affinity) or _NO_AFFINITY


def _with_terms(spec: PodSpec, terms: list[Term] | None) -> PodSpec:
    return _with_node_affinity(spec, required=None if terms is None else NodeSelector(terms))


def _with_node_affinity(spec: PodSpec, **fields: Any) -> PodSpec:
    affinity = Affinity(msgspec.structs.replace(_node_affinity(spec), **fields))
    return msgspec.structs.replace(spec, affinity=affinity)

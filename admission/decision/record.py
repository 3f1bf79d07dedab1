"""The recorded decision: the annotation `slicewise.io/decision`.  Pure.

UPDATE repeats it, and Pods made of a template that was done are recognised by it. Anybody can write an annotation, so a
record is worth no more than a label: what the policy could not have said is not believed.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.effective_policy import BarePolicy, EffectivePolicy, Rules
from admission.decision.gpu_requests import gpu_requests
from admission.decision.model import Assigned, Decision, GpuRequest, Placed
from admission.decision.node_selector import labelled
from admission.decision.steering import pools_of, steered_to
from admission.workloads.kind import Steering
from admission.workloads.model import Metadata, PodSpec, Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Allowed, matches
from slicewise.api.quantities import mebibytes
from slicewise.gpu import mig
from slicewise.gpu.strategies import MULTI_GPU_DEFAULT, MultiGPU, Strategy
from slicewise.inventory.allocation import NodeFilter, is_model
from slicewise.inventory.declared_pools import may_be_model
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.pool_name import PoolName, slugged
from slicewise.inventory.pools import Pool

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Decision).decode
_MOST_POOLS: Final = 256
_MOST_LABELS: Final = 16


def text(decision: Decision) -> str:
    """Returns the annotation's JSON."""
    return _encode(decision).decode()


def recorded(metadata: Metadata | None) -> Decision | None:
    """Reads the annotation; None when there is none or somebody wrote something else there."""
    if metadata is None or not metadata.annotations or not (text := metadata.annotations.get(keys.DECISION)):
        return None
    try:
        found = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    ours = all(
        keys.is_device(each.to) and each.count > 0 and each.asked > 0 for each in found.containers.values()
    )
    small = _is_small(found) and all(map(_is_small, found.templates.values()))
    return found if ours and small else None


def _is_small(found: Decision | Placed) -> bool:
    """True for what names as few pools as any cluster has: each is compared with all that a pod says of its nodes."""
    return len(found.pools) <= _MOST_POOLS and len(found.node_labels) <= _MOST_LABELS


def merged(
    results: list[tuple[Template, Decision]], ambiguous: Collection[str] = (), base: str = ""
) -> Decision:
    """Returns one decision for an object with several templates; a container's name that occurs with
    different outcomes is told apart by the pointer of its pod spec.

    Args:
        results: what was decided, by template.
        ambiguous: further names of containers to be told apart.
        base: the pointer of the object, where it stands within another: pointers in its record begin at itself.
    """
    first = results[0][1]
    if len(results) == 1 and not any(name in ambiguous for name in first.containers):
        return first
    containers: dict[str, Assigned] = {}
    for template, decision in results:
        place = template.spec_pointer.removeprefix(base)
        for name, each in decision.containers.items():
            same = name not in ambiguous and containers.get(name) in {None, each}
            containers[name if same else f"{place}:{name}"] = each
    pools = tuple(dict.fromkeys(pool for _, decision in results for pool in decision.pools))
    # Part by part, so that merging what was merged before says nothing twice.
    reasons = "; ".join(dict.fromkeys(part for _, each in results for part in each.reason.split("; ")))
    steered = any(decision.steered for _, decision in results)
    placed = {
        template.spec_pointer.removeprefix(base): _placed(each, first)
        for template, each in results
        if not template.annotatable
    }
    alike = all(_placed(each, first) == _placed(first, first) for _, each in results)
    return msgspec.structs.replace(
        first,
        containers=containers,
        pools=pools,
        reason=reasons,
        steered=steered,
        templates={} if alike else placed,
    )


def _placed(decision: Decision, first: Decision) -> Placed:
    """Returns what a template's decision says; its policy and class, which most share, where the `first` has others."""
    return Placed(
        decision.strategy,
        decision.pools,
        decision.steered,
        decision.node_labels,
        None if decision.policy == first.policy else decision.policy,
        None if decision.class_name == first.class_name else decision.class_name,
        None if decision.class_from == first.class_from else decision.class_from,
        None if decision.pipe_directory == first.pipe_directory else decision.pipe_directory,
    )


def record_of(was: Template | None, root: Decision | None) -> Decision | None:
    """Returns what was decided for a template as it stood; `root` is the record of its whole object."""
    if was is not None and (found := recorded(was.metadata)):
        return found
    if root is None or was is None:
        return None
    prefix = was.spec_pointer + ":"
    # In their order, so that a record that is merged anew reads the same.
    containers: dict[str, Assigned] = {}
    for name, each in root.containers.items():
        if name.startswith(prefix):
            containers[name.removeprefix(prefix)] = each
        else:
            containers.setdefault(name, each)
    placed = root.templates.get(was.spec_pointer)
    if placed is None:
        return msgspec.structs.replace(root, containers=containers, templates={})
    return msgspec.structs.replace(
        root,
        containers=containers,
        strategy=placed.strategy,
        pools=placed.pools,
        steered=placed.steered,
        node_labels=placed.node_labels,
        policy=root.policy if placed.policy is None else placed.policy,
        class_name=root.class_name if placed.class_name is None else placed.class_name,
        class_from=root.class_from if placed.class_from is None else placed.class_from,
        pipe_directory=root.pipe_directory if placed.pipe_directory is None else placed.pipe_directory,
        templates={},
    )


def of_containers(record: Decision, asked: Iterable[GpuRequest]) -> Decision:
    """Returns what a record says of some containers; what it says of others, nobody decided."""
    names = {each.container.name for each in asked} & record.containers.keys()
    own = {name: each for name, each in record.containers.items() if name in names}
    return msgspec.structs.replace(record, containers=own)


def possible_records(
    workload: Workload, template: Template, asked: list[GpuRequest], effective: EffectivePolicy
) -> Iterator[Decision]:
    """Yields the decisions that a controller's Pod without a record may come from: its template was done, but
    is of a kind that keeps no metadata beside its pod spec, so that all there is to see is the steering."""
    if not workload.row.is_pod or workload.metadata.controller is None:
        return
    pools = pools_of(template.spec)
    if not pools or len(pools) > _MOST_POOLS:
        return
    containers = {}
    for each in asked:
        for name, number in each.amounts.items():
            containers[each.container.name] = Assigned(keys.GPU, name, number, number)
    for class_name in effective.spec.classes:
        for strategy in Strategy:
            yield Decision(
                effective.policy.name, class_name, "label", strategy, pools, containers, "", steered=True
            )


def is_given(asked: Iterable[GpuRequest], record: Decision) -> bool:
    """True when each container asks for exactly what a record gives it, or for a slice that it names itself, which is
    nobody's decision."""
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is None and not each.gpus:
            continue
        if assigned is None or each.amounts != {assigned.to: assigned.count}:
            return False
    return True


def already_applied(
    template: Template,
    asked: list[GpuRequest],
    record: Decision,
    effective: Rules,
    state: ClusterState,
    where: NodeFilter | None,
) -> bool:
    """True when the template already is what the record says, and the policy could have said so.

    Anybody can write the annotation, so it is worth no more than a label: the class must be the policy's,
    the strategy and the numbers what this class may get, and what `nvidia.com/gpu` means must be said by
    affinity to pools of which it is true. `where` is what the template itself leaves of the nodes.
    """
    if not is_given(asked, record) or not policy_allows(record, effective):
        return False
    elsewhere = template.means is not Steering.SPEC  # said by other fields, or by the pods themselves
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is None or assigned.to != keys.GPU:
            continue
        if not pools_give(record, assigned.count, effective, state, None if elsewhere else where):
            return False
        if not (record.steered or elsewhere):
            return False  # the name alone may mean anything
    return not record.steered or elsewhere or steered_to(template.spec, record.pools, record.node_labels)


def is_plausible(record: Decision, was: Template | None, policy_name: str, state: ClusterState) -> bool:
    """True when an UPDATE may repeat a record: what stood was as it says, or its policy could have said so.

    The second is for what was changed while no webhook answered. Otherwise somebody wrote the record himself, beside
    work that nobody had to decide; with the words of a policy that gives more than that of his namespace, perhaps.

    Args:
        record: what it says of the containers of the template that asked for devices.
        was: the template as it stood; None where that is no evidence.
        policy_name: the policy of the namespace; "" where none holds, and a record may be of any.
        state: the cluster.
    """
    if was is not None and _describes(record, was.spec):
        return True
    policy = state.policy(record.policy)
    if policy is None or policy_name not in {"", record.policy}:
        return False
    rules = BarePolicy(policy)
    if not policy_allows(record, rules):
        return False
    free = was is not None and was.means is not Steering.SPEC
    if any(each.count not in {each.asked, 1} for each in record.containers.values()):
        return False
    return all(
        each.to != keys.GPU or ((record.steered or free) and pools_give(record, each.count, rules, state))
        for each in record.containers.values()
    )


def _describes(record: Decision, spec: PodSpec) -> bool:
    """True when containers got exactly what the record says, and no other GPU is asked for but by name."""
    amounts = {each.container.name: each.amounts for each in gpu_requests(spec)}
    if any(keys.GPU in amounts[name] for name in amounts.keys() - record.containers.keys()):
        return False
    return all(amounts[name].get(each.to) == each.count for name, each in record.containers.items())


def policy_allows(record: Decision, effective: Rules) -> bool:
    """True when the policy is the record's, has its class, and may give work of that class such a strategy."""
    if record.policy != effective.policy.name or record.class_name not in effective.spec.classes:
        return False
    strategies = _strategies(record, effective)
    if record.strategy != Strategy.EXCLUSIVE or Strategy.EXCLUSIVE in strategies:
        return record.strategy in strategies
    # Whole GPUs for a class that gets none: for more than one alone, and where its rule says so.
    several = any(each.count > 1 for each in record.containers.values())
    return several and any(_rules(record, strategy, effective) & {MultiGPU.WHOLE} for strategy in strategies)


def _strategies(record: Decision, effective: Rules) -> set[Strategy]:
    """Returns the strategies that work of the record's class may get, by what its people may say too."""
    work, allow = effective.spec.classes[record.class_name], effective.spec.allow
    said = {*effective.spec.needs.values()} if Allowed.NEEDS in allow else set()
    named = {Strategy.MIG} if Allowed.PROFILE in allow else set()
    return {work.strategy, *work.otherwise, *said, *named}


def _rules(record: Decision, strategy: Strategy, effective: Rules) -> set[MultiGPU]:
    """Returns what more than one may become."""
    if strategy is Strategy.EXCLUSIVE:
        return {MultiGPU.EACH}
    rule = effective.spec.classes[record.class_name].multi_gpu or MULTI_GPU_DEFAULT[strategy]
    named = strategy is Strategy.MIG and Allowed.PROFILE in effective.spec.allow
    return {rule, MultiGPU.EACH} if named else {rule}


def _sizes_are_free(record: Decision, effective: Rules) -> bool:
    """True when the class names no size, or people may name one themselves."""
    free = {Allowed.GPU_MEMORY, Allowed.PROFILE} & {*effective.spec.allow}
    return bool(free) or effective.spec.classes[record.class_name].size is None


def _size_allowed(found: Resource, record: Decision, effective: Rules) -> bool:
    """True when a class may get this size: one that a record of somebody's own making names may be any."""
    size = effective.spec.classes[record.class_name].size
    if size is None or _sizes_are_free(record, effective) or found.strategy is not Strategy.MIG:
        return True
    if size.profile:
        return mig.parse(size.profile) == mig.parse(found.profile)
    return found.memory is None or size.memory is None or found.memory >= mebibytes(size.memory)


def _profile_allowed(words: str, record: Decision, effective: Rules) -> bool:
    """Likewise of a pool that is not there now, by the profile in its name; some board must have it."""
    if not words:
        return True
    size = effective.spec.classes[record.class_name].size
    known = {slugged(profile) for board in mig.boards().values() for profile in board.profiles}
    if size is not None and size.profile and not _sizes_are_free(record, effective):
        return slugged(size.profile) == words
    return words in known


def _models_allowed(pool: Pool, models: Sequence[str], record: Decision, where: NodeFilter | None) -> bool:
    """True when a pod that is kept as the record says comes to no node of another model; a pool may have several."""
    if not pool.is_model(models):
        return False
    if not models or all(matches(model, models) for model in pool.models):
        return True
    comes_to = labelled(record.node_labels)
    return all(
        is_model(node, models)
        for node in pool.members
        if (where is None or where.allows(node)) and comes_to(node)
    )


def pools_give(
    record: Decision, number: int, effective: Rules, state: ClusterState, where: NodeFilter | None = None
) -> bool:
    """True when this many `nvidia.com/gpu` of the record's pools are what its strategy gives. A pool that is
    gone for the moment is no reason to decide anew, but its name must say the same: one that is empty now may be made
    larger for this very work. `where` is what the pod leaves of the nodes beside what the record says."""
    allowed = {Strategy(record.strategy)}
    if number > 1:
        rules = _rules(record, Strategy(record.strategy), effective)
        allowed = allowed if MultiGPU.EACH in rules else set()
        if MultiGPU.WHOLE in rules:
            allowed |= {Strategy.EXCLUSIVE}
    models = effective.spec.classes[record.class_name].models
    known = [pool for name in record.pools if (pool := state.pools.pool(name))]
    offered = [(pool, found) for pool in known if (found := pool.resources.get(keys.GPU))]
    seen = {pool.name for pool, _ in offered}
    named = (
        bool(
            name
            and allowed & name.strategies
            and (not models or may_be_model(name.model, models))
            and _profile_allowed(name.profile, record, effective)
        )
        for name in map(PoolName.parse, (pool for pool in record.pools if pool not in seen))
    )
    return (
        bool(allowed)
        and all(
            found.strategy in allowed
            and _models_allowed(pool, models, record, where)
            and _size_allowed(found, record, effective)
            for pool, found in offered
        )
        and all(named)
    )

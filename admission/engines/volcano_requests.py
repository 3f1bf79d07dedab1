"""What an engine counts beside what it runs.  Pure.

Volcano sums up `minResources` of a gang from the requests in its templates (pkg/controllers/util, GetPodQuotaUsage).
People ask for GPUs in limits, and only in Pods does Kubernetes fill in the requests; so a gang would be enqueued for
nothing of its slices, whatever its queue has. What was decided is therefore written as a request too, with which the
Pods come out the same.
"""

from typing import Final

from admission.decision.gpu_requests import wanting
from admission.decision.model import Decision
from admission.mutation.template_patch import Operation
from admission.workloads.model import Template, Workload
from admission.workloads.path_language import escape
from slicewise.api import keys

_GROUPS: Final = frozenset({"batch.volcano.sh", "flow.volcano.sh", "training.volcano.sh"})


def counted(workload: Workload, results: list[tuple[Template, Decision]]) -> list[Operation]:
    """Returns what writes the decided resource as a request where only a limit names it."""
    if workload.group not in _GROUPS:
        return []
    found: list[Operation] = []
    for template, decision in results:
        for each in wanting(template.spec):
            assigned, resources = decision.containers.get(each.container.name), each.container.resources
            if assigned is None or resources is None:
                continue
            requests = resources.requests
            if requests and requests.keys() & {keys.GPU, assigned.to, *each.named}:
                continue
            path, count = f"{template.spec_pointer}{each.pointer}/resources/requests", str(assigned.count)
            if requests is None:
                found.append({"op": "add", "path": path, "value": {assigned.to: count}})
            else:
                found.append({"op": "add", "path": f"{path}/{escape(assigned.to)}", "value": count})
    return found

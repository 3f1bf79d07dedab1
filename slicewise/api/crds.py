"""The CustomResourceDefinitions, generated from the models in `slicewise.api.policy`: `python -m slicewise.api.crds`.

The models' JSON schema is turned into a structural one (no references, no alternatives, nothing that Kubernetes does
not take), and the rules that hold between fields are said in CEL with the models' own sentences, so that an object is
refused at the door even while the webhook is away. What CEL cannot say within its budget, the webhook says.

Defaults are described but not written into the schema: an object keeps what its author wrote, and a later release may
choose a better default.
"""

from pathlib import Path
from typing import Final

from slicewise.api.policy import API_VERSION, PLAN_KIND, POLICY_KIND, PlanSpec, PolicySpec
from slicewise.api.structural_schema import Schema, cel, structural
from slicewise.kube import yaml

GROUP, VERSION = API_VERSION.split("/")
FOLDER: Final = Path("charts/slicewise/files/crds")
# --- Rules between fields, by the path of the schema that they hold for (`*`: a map's values, `[]`: a list's items) ---


_ONE_LIMIT: Final = cel("has(self.count) != has(self.percent)", "give either count or percent")
_KUEUE_RULES: Final = {
    "preemption": cel(
        "!has(self.borrowWithinCohort) || !has(self.borrowWithinCohort.policy)"
        " || self.borrowWithinCohort.policy == 'Never'"
        " || (has(self.reclaimWithinCohort) && self.reclaimWithinCohort != 'Never')",
        "borrowWithinCohort: Kueue takes it only beside reclaimWithinCohort; set that to LowerPriority or Any",
    ),
    "flavorFungibility": cel(
        "!has(self.preference) || (has(self.whenCanBorrow) && self.whenCanBorrow == 'TryNextFlavor'"
        " && has(self.whenCanPreempt) && self.whenCanPreempt == 'TryNextFlavor')",
        "preference: Kueue takes it only where both others are TryNextFlavor; set them or remove it",
    ),
    "fairSharing.weight": cel(
        "type(self) == int ? self >= 0 && self <= 1000000 : isQuantity(self)"
        " && !quantity(self).isLessThan(quantity('0')) && !quantity(self).isGreaterThan(quantity('1M'))",
        "it is not between 0 and 1000000; write for example 2",
    ),
}
_SIZES_RULE: Final = cel(
    "self.all(name, type(self[name]) == int ? self[name] >= 0"
    " && (self[name] <= 1000000 || !name.startsWith('nvidia.com/')) : isQuantity(self[name])"
    " && !quantity(self[name]).isLessThan(quantity('0'))"
    " && (!quantity(self[name]).isGreaterThan(quantity('1M')) || !name.startsWith('nvidia.com/')))",
    "a quantity is below zero, or more devices than any pool has (1000000); write a smaller number",
)

_POLICY_RULES: Final[dict[str, list[Schema]]] = {
    "": [
        cel(
            "self.defaultClass in self.classes",
            "defaultClass: there is no such class; add it to classes or name one that is there",
        ),
        cel(
            "!has(self.kinds) || self.kinds.all(kind, self.kinds[kind] in self.classes)",
            "kinds: a kind is given a class that there is not; add it to classes or name one that is there",
        ),
    ],
    "classes.*": [
        cel(
            "!has(self.otherwise) || !(self.strategy in self.otherwise)",
            "otherwise: the strategy itself is tried already and would never be reached; remove it",
        ),
        cel(
            "!has(self.otherwise) || self.otherwise.all(one, self.otherwise.exists_one(other, other == one))",
            "otherwise: a strategy is listed twice and would never be reached again; remove it",
        ),
    ],
    "classes.*.size": [
        cel("has(self.memory) != has(self.profile)", "give either memory or profile"),
        cel(
            "!has(self.memory) || (isQuantity(self.memory) && quantity(self.memory).isGreaterThan(quantity('0')))",
            "memory: not an amount of memory above zero; write for example 16Gi",
        ),
    ],
}
_PLAN_RULES: Final[dict[str, list[Schema]]] = {
    "": [
        cel(
            "self.engine != 'kueue' || has(self.cohort)"
            " || self.queues.all(queue, !has(queue.borrowing) && !has(queue.lending))",
            "queues: Kueue takes borrowing and lending limits only in a cohort; name a cohort",
        ),
        cel(
            "self.engine == 'kueue' || (!has(self.kueue) && self.queues.all(queue, !has(queue.kueue)))",
            "kueue: these fields are Kueue's, and the engine is another; remove them",
        ),
    ],
    "maximum.*": [_SIZES_RULE],
    "perNode.*": [_SIZES_RULE],
    "promise.*": [
        cel(
            "self.all(name, type(self[name]) == int ? self[name] >= 0 : self[name] == 'rest')",
            "promise: not a number, or rest; write one of them for each profile",
        ),
    ],
    **{
        f"{place}.{field}": [rule]
        for place in ("kueue", "queues[].kueue")
        for field, rule in _KUEUE_RULES.items()
    },
    "cover[]": [
        cel(
            "!self.startsWith('nvidia.com/')",
            "this is what the pools offer, and covered already; list others, such as cpu",
        ),
    ],
    "mode": [
        cel("self != 'capacity-provider'", "capacity-provider is not served yet; use write or report"),
    ],
    "queues[].borrowing": [_ONE_LIMIT],
    "queues[].lending": [_ONE_LIMIT],
}
# Bounds that CEL's cost estimate needs, and markers of how lists merge; none forbids what the models allow in earnest.
_POLICY_EXTRAS: Final[dict[str, Schema]] = {
    "classes.*.size.memory": {"maxLength": 32},
    "classes.*.size.profile": {"maxLength": 63},
}
_PLAN_EXTRAS: Final[dict[str, Schema]] = {
    "queues": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    **{f"{field}.*": {"maxProperties": 64} for field in ("maximum", "perNode", "promise")},
    **{f"{field}.*.*": {"maxLength": 32} for field in ("maximum", "perNode", "promise")},
    **{f"{place}.fairSharing.weight": {"maxLength": 32} for place in ("kueue", "queues[].kueue")},
}


# --- The definitions --------------------------------------------------------------------------------------

_CONDITIONS: Final[Schema] = {
    "type": "array",
    "description": "What is known of the object, one entry for each aspect.",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "maxLength": 316},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
            "message": {"type": "string", "maxLength": 32768},
        },
    },
}
_GENERATION: Final[Schema] = {
    "type": "integer",
    "format": "int64",
    "description": "The generation that the rest of the status is about.",
}
_POLICY_STATUS: Final[Schema] = {
    "type": "object",
    "description": "Written by the controller.",
    "properties": {
        "observedGeneration": _GENERATION,
        "conditions": _CONDITIONS,
        "classes": {
            "type": "object",
            "description": "What each class gets now, with the pools that it may land in.",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "strategy": {"type": "string"},
                    "pools": {
                        "type": "array",
                        "description": "The first of these pools, 50 at most.",
                        "items": {"type": "string"},
                    },
                    "morePools": {
                        "type": "integer",
                        "format": "int32",
                        "description": "How many of them are not listed.",
                    },
                },
            },
        },
        "namespaces": {
            "type": "integer",
            "format": "int32",
            "description": "How many namespaces name this policy.",
        },
    },
}
_AMOUNTS: Final = {
    "offered": "What the nodes show now, believed or not.",
    "believed": "What is counted.",
    "heldBack": "By how much less is counted than shown.",
    "assigned": "What the queues get together.",
    "reserved": "What Workloads of these queues have reserved, or run with.",
    "used": "What admitted Workloads of these queues use.",
}
_PLAN_STATUS: Final[Schema] = {
    "type": "object",
    "description": "Written by the controller.",
    "properties": {
        "observedGeneration": _GENERATION,
        "conditions": _CONDITIONS,
        "counted": {"type": "string", "description": "GPU resources that count in all pools, in short."},
        "quota": {"type": "string", "description": "What the queues get of them, in short."},
        "queues": {
            "type": "array",
            "description": "What each queue gets, for the first queues of the plan, 200 at most.",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "quota": {
                        "type": "object",
                        "description": "Quota of the queue, over all pools.",
                        "additionalProperties": {"type": "string"},
                    },
                    "lastChange": {
                        "type": "object",
                        "description": "What changed last in its quota, and which node is the cause.",
                        "properties": {
                            "time": {"type": "string", "format": "date-time"},
                            "message": {"type": "string"},
                        },
                    },
                },
            },
        },
        "pools": {
            "type": "array",
            "description": "The first pools that feed the queues, 200 at most, with what each of them gets.",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "nodes": {
                        "type": "integer",
                        "format": "int32",
                        "description": "Nodes that are believed, or still count.",
                    },
                    **{
                        name: {
                            "type": "object",
                            "description": description,
                            "additionalProperties": {"type": "string"},
                        }
                        for name, description in _AMOUNTS.items()
                    },
                    "notAsPlanned": {
                        "type": "array",
                        "description": "Nodes that are not, or cannot become, what their configuration says.",
                        "items": {
                            "type": "object",
                            "properties": {"node": {"type": "string"}, "reason": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "leftOut": {
            "type": "string",
            "description": "How many queues and pools are not listed, because a status has no room for them.",
        },
    },
}


def _column(
    name: str, path: str, *, kind: str = "string", description: str = "", priority: int = 0
) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if priority:
        column["priority"] = priority
    return column


_READY: Final = _column("Ready", '.status.conditions[?(@.type=="Ready")].status')
_AGE: Final = _column("Age", ".metadata.creationTimestamp", kind="date")


def definitions() -> dict[str, Schema]:
    """Returns the definitions by name."""
    policy = _definition(
        POLICY_KIND,
        "slicingpolicies",
        "slicepol",
        "SlicingPolicy says what slice of a GPU each class of work gets. A namespace opts in with a label.",
        structural(PolicySpec.model_json_schema(), _POLICY_RULES, _POLICY_EXTRAS),
        _POLICY_STATUS,
        [
            _column("Default", ".spec.defaultClass", description="Class of work that nothing else gives one"),
            _column("Nothing-Fits", ".spec.whenNothingFits", priority=1),
            _column("Namespaces", ".status.namespaces", kind="integer"),
            _READY,
            _AGE,
        ],
        [
            cel(
                "size(self.metadata.name) <= 63",
                "namespaces name the policy in a label, so its name has at most 63 characters; shorten it",
            )
        ],
    )
    plan = _definition(
        PLAN_KIND,
        "quotaplans",
        "qplan",
        "QuotaPlan says which pools of GPUs feed which queues, and in what shares.",
        structural(PlanSpec.model_json_schema(), _PLAN_RULES, _PLAN_EXTRAS),
        _PLAN_STATUS,
        [
            _column("Engine", ".spec.engine", priority=1),
            _column("Cohort", ".spec.cohort", priority=1),
            _column("Mode", ".spec.mode"),
            _READY,
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            _column("Counted", ".status.counted"),
            _column("Quota", ".status.quota"),
            _AGE,
        ],
        [],
    )
    return {each["metadata"]["name"]: each for each in (policy, plan)}


def _definition(
    kind: str,
    plural: str,
    short: str,
    description: str,
    spec: Schema,
    status: Schema,
    columns: list[Schema],
    rules: list[Schema],
) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if rules:
        schema["x-kubernetes-validations"] = rules
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "slicewise"},
            # Removing the definition removes every object of the kind, which nobody means by uninstalling a chart.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["slicewise"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def rendered() -> dict[str, str]:
    """Returns the files by name."""
    header = (
        "# Generated from slicewise/api/policy.py by `python -m slicewise.api.crds`; edit that instead.\n"
    )
    return {
        f"{name.partition('.')[0]}.yaml": header + yaml.dump([each]) for name, each in definitions().items()
    }


def main() -> None:
    """Writes the files into the chart."""
    for name, text in rendered().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()

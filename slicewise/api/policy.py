"""SlicingPolicy and QuotaPlan: what admins write, checked where it enters.

The CRDs are generated from these models (`slicewise.api.crds`), so a field exists once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from slicewise.api import field_errors, keys
from slicewise.api.kueue_fields import KueueFields
from slicewise.api.models import FieldError, Glob, Model, Name, Number, ResourceName, Share
from slicewise.api.quantities import MOST, QuantityError, count, slice_mebibytes
from slicewise.gpu import mig
from slicewise.gpu.strategies import DECISION_TREE, ClassStrategy, MultiGPU, Need, Strategy

API_VERSION: Final = "slicewise.io/v1alpha1"
POLICY_KIND: Final = "SlicingPolicy"
PLAN_KIND: Final = "QuotaPlan"
BUILT_IN: Final = "default"

PIPE_DIRECTORIES: Final = ("/run/nvidia/mps", "/tmp/nvidia-mps")  # noqa: S108
"""Where MPS daemons customarily meet their clients: the device plugin's root, and CUDA's own default."""
AbsolutePath = Annotated[
    str, StringConstraints(pattern=r"^(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", max_length=253)
]
"""Without the parts `.` and `..`, which would lead out of it."""
Kind = Annotated[
    str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*(\.[a-z0-9][-a-z0-9.]*)?$", max_length=253)
]


# --- SlicingPolicy ----------------------------------------------------------------------------------------


class Size(Model):
    """How large a slice must be: by the memory that it really holds, or by its MIG profile."""

    memory: str | None = Field(
        None, description="Least memory that the slice must really hold, as a quantity."
    )
    profile: str | None = Field(None, description="Exact MIG profile, such as 1g.10gb or 1g.10gb+me.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.memory is None) == (self.profile is None):
            raise ValueError("give either memory or profile")
        if self.memory is not None:
            try:
                slice_mebibytes(self.memory)
            except QuantityError as error:
                raise FieldError("memory", f"{error}; write for example 16Gi") from None
        if self.profile is not None and mig.parse(self.profile) is None:
            raise FieldError("profile", f"{self.profile!r} is no MIG profile; write for example 1g.10gb")
        return self


class WorkloadClass(Model):
    """What work of one class gets."""

    strategy: ClassStrategy = Field(description="How the GPU that this class gets is divided.")
    size: Size | None = Field(None, description="Left out: the smallest slice there is.")
    models: tuple[Glob, ...] = Field(
        (), description="Globs on the base GPU model; left out: any.", max_length=64
    )
    multi_gpu: MultiGPU | None = Field(
        None,
        alias="multiGPU",
        description="What asking for more than one becomes; unless said: mig whole, shares refuse, vgpu each.",
    )
    otherwise: tuple[ClassStrategy, ...] = Field(
        (), description="Strategies to try, in order, when no pool offers the first.", max_length=8
    )
    spill: bool = Field(
        True,
        strict=True,
        description="Larger boards of the same name and strategy serve too, smaller ones preferred; "
        "false: only the smallest size.",
    )
    pipe_directory: AbsolutePath | None = Field(
        None,
        description="Pipe directory of an MPS daemon that is no part of the device plugin, on every node of the class.",
    )

    @model_validator(mode="after")
    def _daemon(self) -> Self:
        if self.pipe_directory and self.strategy not in (Strategy.TIME_SLICING, Strategy.EXCLUSIVE):
            raise FieldError(
                "pipeDirectory",
                "a daemon beside the device plugin serves nodes that say time-slicing or exclusive, "
                f"not {self.strategy}; change strategy or remove it",
            )
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        profile = mig.parse(self.size.profile) if self.size and self.size.profile else None
        if profile is None or not self.models:
            return self
        known = [product for product in mig.known_products() if matches(product, self.models)]
        boards = [board for product in sorted(known) if (board := mig.board_of(product))]
        if boards and not any(board.placement(profile) for board in boards):
            have = ", ".join(dict.fromkeys(name for board in boards for name in board.profiles))
            raise FieldError(
                "size.profile", f"no board that models names has {profile.name}; they have {have}"
            )
        return self

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        tried = [self.strategy]
        for strategy in self.otherwise:
            if strategy in tried:
                raise FieldError(
                    "otherwise", f"{strategy} is tried already and would never be reached; remove it"
                )
            tried.append(strategy)
        return self


class WhenNothingFits(StrEnum):
    """What becomes of a request that no pool can serve."""

    REFUSE = "refuse"
    LEAVE = "leave"


class Allowed(StrEnum):
    """What people may say for themselves on a workload."""

    OPT_OUT = "opt-out"
    GPU_MEMORY = "gpu-memory"
    PROFILE = "profile"
    NEEDS = "needs"


class Rollout(Model):
    """How much of the work a policy holds for, for admins who would rather not switch all at once."""

    percent: Number = Field(
        100, ge=0, le=100, description="Of the owners, by a stable hash of namespace and name."
    )


class PolicySpec(Model):
    """The spec of a SlicingPolicy."""

    default_class: Name = Field(description="Class of work that nothing else gives one.")
    classes: dict[Name, WorkloadClass] = Field(
        description="What each class gets.", min_length=1, max_length=64
    )
    kinds: dict[Kind, Name] = Field({}, description="Class by kind, as Kind.group.", max_length=128)
    needs: dict[Need, ClassStrategy] = Field(
        dict(DECISION_TREE), description="The decision tree: what somebody needs, and the strategy it means."
    )
    when_nothing_fits: WhenNothingFits = Field(
        WhenNothingFits.REFUSE, description="refuse, or leave: as it was asked, with a warning."
    )
    allow: tuple[Allowed, ...] = Field(
        tuple(Allowed), description="Which annotations people may use; left out: all.", max_length=4
    )
    rollout: Rollout = Field(
        Rollout.model_construct(),
        description="Work beyond it is left as it was asked; left out: all of it is rewritten.",
    )

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        named = {"defaultClass": self.default_class, **{f"kinds.{k}": v for k, v in self.kinds.items()}}
        for field, name in named.items():
            if name not in self.classes:
                raise FieldError(field, f"there is no class {name!r}; classes are {', '.join(self.classes)}")
        return self


class SlicingPolicy(Model):
    """A policy by name."""

    name: str
    spec: PolicySpec


# The published guidance, as docs/policy.md quotes it with sources. A SlicingPolicy called "default" replaces it.
BUILT_IN_SPEC: Final[dict[str, Any]] = {
    "defaultClass": "training",
    "classes": {
        "inference": {"strategy": "mig", "otherwise": ["exclusive"]},
        "notebook": {"strategy": "time-slicing", "otherwise": ["mig", "exclusive"]},
        "batch-inference": {"strategy": "mps", "otherwise": ["mig", "exclusive"]},
        "training": {"strategy": "exclusive"},
        "tuning": {"strategy": "time-slicing", "otherwise": ["mig", "exclusive"]},
    },
    "kinds": {"Notebook.kubeflow.org": "notebook"},
}


def built_in() -> SlicingPolicy:
    """Returns the policy `default` that holds until a SlicingPolicy of that name replaces it."""
    return SlicingPolicy(name=BUILT_IN, spec=PolicySpec.model_validate(BUILT_IN_SPEC))


def matches(text: str, globs: Iterable[str]) -> bool:
    """True when a text matches one of the globs, as `*H100*` does."""
    return any(fnmatchcase(text, glob) for glob in globs)


# --- QuotaPlan --------------------------------------------------------------------------------------------


class Engine(StrEnum):
    """Who queues the work."""

    KUEUE = "kueue"
    VOLCANO = "volcano"

    @property
    def knows_demand(self) -> bool:
        """True where its objects say what waits for quota and of which pool what runs has it."""
        return self is Engine.KUEUE

    @property
    def cohort_is_queue(self) -> bool:
        """True where a plan's cohort is a queue too, which one plan alone may have."""
        return self is Engine.VOLCANO

    @property
    def ignores(self) -> frozenset[str]:
        """Fields of a plan and of its queues that mean nothing to it."""
        return frozenset({"topology", "namespaces", "lending"} if self is Engine.VOLCANO else ())


NO_ENGINE: Final = "none"
ENGINE_LABELS: Final = (*Engine, NO_ENGINE)
"""What the label `slicewise.io/engine` of a namespace may say."""


def engine_label(labels: Mapping[str, str]) -> str:
    """Returns what a namespace's labels say of the engine: a queue alone is Kueue's; "" when they say nothing."""
    return labels.get(keys.ENGINE, Engine.KUEUE if labels.get(keys.QUEUE) else "")


# apimachinery, pkg/util/validation: IsQualifiedName, which names resources too, and IsValidLabelValue.
_PLAIN: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUALIFIED: Final = re.compile(rf"(?:[a-z0-9][-a-z0-9.]{{0,252}}/)?{_PLAIN}")
_LABEL_VALUE: Final = re.compile(rf"(?:{_PLAIN})?")


def _check_label(field: str, key: str) -> None:
    if not _QUALIFIED.fullmatch(key):
        raise FieldError(
            field, f"{key[:80]!r} is no key of a label; write for example team or example.com/team"
        )


def _check_values(field: str, values: Iterable[str]) -> None:
    if wrong := next((value for value in values if not _LABEL_VALUE.fullmatch(value)), None):
        raise FieldError(
            field,
            f"{wrong[:80]!r} is no value of a label; write at most 63 letters, digits, '-', '_' and '.'",
        )


class LabelExpression(Model):
    """One requirement of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _valued(self) -> Self:
        if self.operator in {"In", "NotIn"} and not self.values:
            raise FieldError("values", f"{self.operator} needs values; list one or more")
        if self.operator in {"Exists", "DoesNotExist"} and self.values:
            raise FieldError("values", f"{self.operator} takes no values; remove them")
        _check_label("key", self.key)
        _check_values("values", self.values)
        return self


class LabelSelector(Model):
    """A Kubernetes label selector; an empty one selects everything."""

    match_labels: dict[str, str] = Field({})
    match_expressions: tuple[LabelExpression, ...] = ()

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        for key, value in self.match_labels.items():
            _check_label("matchLabels", key)
            _check_values("matchLabels", [value])
        return self

    def matches(self, labels: "dict[str, str]") -> bool:
        """True when the labels meet every requirement."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(_meets(labels, expression) for expression in self.match_expressions)


def _meets(labels: dict[str, str], expression: LabelExpression) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case _:
            return value is None


class PoolSelector(Model):
    """Which pools feed a plan: by name, or by the strategy of what they offer."""

    match_names: tuple[Glob, ...] = Field((), description="Globs on pool names.", max_length=64)
    match_strategies: tuple[ClassStrategy, ...] = Field(
        (), description="Strategies of offers: of a mixed pool, only those are taken.", max_length=5
    )


class Headroom(Model):
    """What is kept out of the quota, per pool and GPU resource."""

    percent: Number = Field(0, ge=0, le=100, description="Of each pool's quantity, rounded up.")
    count: Number = Field(0, ge=0, le=1_000_000, description="Added to the percentage.")

    def left_of(self, quantity: int) -> int:
        """Returns what is left of a pool's GPU resource: the percentage rounds up, the count comes on top."""
        return max(0, quantity + (-quantity * self.percent // 100) - self.count)


class Limit(Model):
    """A borrowing or lending limit: a number of GPUs, or a percentage that follows capacity."""

    count: Number | None = Field(
        None, ge=0, le=1_000_000, description="GPUs; what is covered beside them is limited by 0 alone."
    )
    percent: Number | None = Field(None, ge=0, le=10_000, description="Of the queue's own quantity.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.count is None) == (self.percent is None):
            raise ValueError("give either count or percent")
        return self


class PlanQueue(Model):
    """One queue of a plan: a ClusterQueue with its LocalQueues, or a Volcano Queue."""

    name: Name
    share: Share = Field(1, description="Its part of every pool, relative to the others.")
    shares: dict[Glob, Share] = Field(
        {},
        description="Its part of pools by glob on the pool's name; the first that matches holds.",
        max_length=64,
    )
    namespaces: LabelSelector | None = Field(
        None, description="A LocalQueue is made in each of these; left out: none."
    )
    borrowing: Limit | None = Field(
        None, description="borrowingLimit; left out: unlimited within the cohort."
    )
    lending: Limit | None = Field(None, description="lendingLimit; left out: everything unused.")
    kueue: KueueFields = Field(
        KueueFields.model_construct(), description="Further fields of this queue; each replaces the plan's."
    )

    def share_of(self, pool: str) -> int:
        """Returns the queue's share of one pool."""
        for glob, share in self.shares.items():
            if fnmatchcase(pool, glob):
                return share
        return self.share


class PlanMode(StrEnum):
    """What the controller does with what it works out."""

    WRITE = "write"
    REPORT = "report"
    CAPACITY_PROVIDER = "capacity-provider"


class DeletionPolicy(StrEnum):
    """What becomes of a plan's quotas when it is deleted."""

    RETAIN = "Retain"
    RELEASE = "Release"


Sizes = dict[Glob, dict[ResourceName, int | str]]
"""Glob on a pool's name -> resource -> quantity."""
WHOLE: Final = "gpu"
REST: Final = "rest"
Promises = dict[Glob, dict[ResourceName, int | str]]
"""Glob on a pool's name -> MIG profile, or `gpu` for whole boards -> how many, or `rest`."""


class PlanSpec(Model):
    """The spec of a QuotaPlan."""

    engine: Engine = Field(description="Who queues the work.")
    pools: PoolSelector = Field(
        PoolSelector.model_construct(), description="Which pools feed the queues; left out: every pool."
    )
    cohort: Name | None = Field(None, description="Kueue: cohortName; Volcano: the parent queue.")
    headroom: Headroom = Field(
        Headroom.model_construct(), description="Kept out of the quota, per pool and resource."
    )
    queues: tuple[PlanQueue, ...] = Field(description="Who gets what part.", min_length=1, max_length=512)
    cover: tuple[ResourceName, ...] = Field(
        (), description="Further resources of the same nodes, such as cpu and memory.", max_length=64
    )
    maximum: Sizes = Field(
        {},
        description="What autoscaled pools may grow to, by glob on the pool's name: resource to quantity.",
        max_length=64,
    )
    per_node: Sizes = Field(
        {},
        description="What one node of a pool that has none will offer; left out: not known, any count may come.",
        max_length=64,
    )
    promise: Promises = Field(
        {},
        description="What to promise of pools of partitionable boards (DRA), by glob on the pool's name: MIG profile, "
        "or gpu for whole boards, to a number or rest; left out: what runs and waits decides.",
        max_length=64,
    )
    topology: dict[Glob, Name] = Field({}, description="topologyName of flavors, by glob on the pool's name.")
    kueue: KueueFields = Field(
        KueueFields.model_construct(),
        description="Further fields of the queues; written only where they are given.",
    )
    deletion_policy: DeletionPolicy = Field(
        DeletionPolicy.RETAIN,
        description="Of a deleted plan: Retain keeps the queues and their quotas, Release gives the quotas back first.",
    )
    suspend: bool = Field(False, strict=True, description="True: nothing is written for this plan.")
    mode: PlanMode = Field(PlanMode.WRITE, description="write, or report: say what would change.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [queue.name for queue in self.queues]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise FieldError("queues", f"{twice} is listed twice; give every queue once")
        for resource in self.cover:
            if not _QUALIFIED.fullmatch(resource):
                raise FieldError(
                    "cover", f"{resource[:80]!r} is no name of a resource; write for example cpu"
                )
            if self.cover.count(resource) > 1:
                raise FieldError("cover", f"{resource} is listed twice; give every resource once")
            if resource.startswith(keys.VENDOR):
                raise FieldError(
                    "cover",
                    f"{resource} is what the pools offer, and covered already; list others, such as cpu",
                )
        if self.mode is PlanMode.CAPACITY_PROVIDER:
            raise FieldError("mode", "capacity-provider is not served yet; use write or report")
        if self.engine is Engine.KUEUE and self.cohort is None:
            for queue in self.queues:
                if queue.borrowing or queue.lending:
                    raise FieldError(
                        f"queues.{queue.name}", "Kueue takes limits only in a cohort; name a cohort"
                    )
        if self.engine is not Engine.KUEUE:
            ours = {
                "kueue": self.kueue,
                **{f"queues.{queue.name}.kueue": queue.kueue for queue in self.queues},
            }
            if field := next((path for path, fields in ours.items() if fields.model_fields_set), None):
                raise FieldError(field, f"these are Kueue's, and the engine is {self.engine}; remove them")
        _check_sizes("maximum", self.maximum, self.cover)
        _check_sizes("perNode", self.per_node, self.cover)
        _check_promise(self.promise)
        return self

    def kueue_of(self, queue: PlanQueue) -> KueueFields:
        """Returns the Kueue fields of one queue: its own, else the plan's."""
        return queue.kueue.over(self.kueue)


def _check_sizes(field: str, sizes: Sizes, cover: tuple[str, ...]) -> None:
    for glob, quantities in sizes.items():
        for resource, quantity in quantities.items():
            path, device = f"{field}.{glob}.{resource}", resource.startswith(keys.VENDOR)
            if not device and resource not in cover:
                raise FieldError(
                    path,
                    f"{resource} is not what pools offer, and not covered; add it to cover, or remove it",
                )
            try:
                number = count(quantity)
            except QuantityError as error:
                raise FieldError(path, f"{error}; write a whole number") from None
            if device and number > MOST:
                raise FieldError(path, f"no pool has more than {MOST} devices; write a smaller number")
            if device and not number and field == "perNode":
                raise FieldError(
                    path, "a node of the pool has at least one; write that number, or leave it out"
                )


def _check_promise(promise: Promises) -> None:
    for glob, wanted in promise.items():
        for name, number in wanted.items():
            path = f"promise.{glob}.{name}"
            if name != WHOLE and mig.parse(name) is None:
                raise FieldError(
                    path, f"{name} is no MIG profile; write one such as 1g.10gb, or gpu for whole boards"
                )
            if number == REST:
                continue
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MOST:
                raise FieldError(path, f"{number!r} is no number up to {MOST}; write one, or {REST}")


class QuotaPlan(Model):
    """A plan by name."""

    name: str
    spec: PlanSpec
    created: str = ""
    """RFC 3339; empty before the API server has it. Of two plans in each other's way the older goes on."""
    fed_pools: tuple[str, ...] = ()
    """The pools that its status lists: it fed from them when the controller last looked."""
    leaving: bool = False
    """True while it is being deleted: it gives nothing any more, so another one may take what it had."""

    @property
    def writes(self) -> bool:
        """True when its queues get what it says."""
        return self.spec.mode is PlanMode.WRITE and not self.leaving

    @property
    def idle(self) -> bool:
        """True when nothing is written for it, not even what gives back."""
        return (self.spec.suspend or self.spec.mode is PlanMode.REPORT) and not self.leaving


# --- Reading ----------------------------------------------------------------------------------------------


class SpecError(ValueError):
    """An object of ours that cannot be used: `field` is a path, the message what is wrong and what is right."""

    def __init__(self, kind: str, name: str, field: str, message: str) -> None:
        super().__init__(f"{kind} {name}: {field}: {message}")
        self.kind, self.name, self.field, self.message = kind, name, field, message


def read_policy(document: dict[str, Any]) -> SlicingPolicy:
    """Reads a SlicingPolicy as it stands in a file or at the API server.

    Raises:
        SpecError: it breaks a rule; the message names the field, the rule and the fix.
    """
    name, spec = _parts(document, POLICY_KIND)
    try:
        return SlicingPolicy(name=name, spec=PolicySpec.model_validate(spec))
    except ValidationError as error:
        field, message = field_errors.first(error, PolicySpec)
        raise SpecError(POLICY_KIND, name, _below_spec(field), message) from None


def require_pipe_directories(policy: SlicingPolicy, allowed: Iterable[str]) -> None:
    """Checks that pods meet MPS daemons only below directories that the installation allows.

    Raises:
        SpecError: a class names another one.
    """
    bases = tuple(allowed)
    for name, work in policy.spec.classes.items():
        directory = work.pipe_directory
        if directory and not any(f"{directory}/".startswith(f"{base.rstrip('/')}/") for base in bases):
            below = " or ".join(bases) or "no directory at all"
            raise SpecError(
                POLICY_KIND,
                policy.name,
                f"spec.classes.{name}.pipeDirectory",
                f"{directory} would be mounted into the pods of people, and this installation allows {below}; "
                "choose one below, or start the webhook with --pipe-directories",
            )


def read_plan(document: dict[str, Any]) -> QuotaPlan:
    """Reads a QuotaPlan as it stands in a file or at the API server.

    Raises:
        SpecError: it breaks a rule; the message names the field, the rule and the fix.
    """
    name, spec = _parts(document, PLAN_KIND)
    try:
        return QuotaPlan(
            name=name,
            spec=PlanSpec.model_validate(spec),
            created=str(document["metadata"].get("creationTimestamp") or ""),
            fed_pools=_fed_pools(document),
            leaving=bool(document["metadata"].get("deletionTimestamp")),
        )
    except ValidationError as error:
        field, message = field_errors.first(error, PlanSpec)
        raise SpecError(PLAN_KIND, name, _below_spec(field), message) from None


def require_largest_maximum(plan: QuotaPlan, largest: int) -> None:
    """Checks that a plan promises of no pool more than the installation allows.

    Raises:
        SpecError: a number of `maximum` is above it.
    """
    for glob, resources in plan.spec.maximum.items():
        for resource, quantity in resources.items():
            if resource.startswith(keys.VENDOR) and count(quantity) > largest:
                raise SpecError(
                    PLAN_KIND,
                    plan.name,
                    f"spec.maximum.{glob}.{resource}",
                    f"{quantity} is more than the {largest} that this installation lets a plan promise; write a "
                    "smaller number, or start webhook and controller with --largest-maximum",
                )


def _fed_pools(document: dict[str, Any]) -> tuple[str, ...]:
    names = (pool.get("name") for pool in _listed_in_status(document, "pools"))
    return tuple(name for name in names if isinstance(name, str))


def last_changes(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (queue, when its quota changed last and why), as the status of a QuotaPlan says."""
    for queue in _listed_in_status(document, "queues"):
        match queue:
            case {"name": str(name), "lastChange": {"time": str(time), "message": str(message)}}:
                yield name, f"{time} {message}"


def _listed_in_status(document: dict[str, Any], field: str) -> list[dict[str, Any]]:
    status = document.get("status")
    listed = status.get(field) if isinstance(status, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _parts(document: dict[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise SpecError(kind, "(unnamed)", "metadata.name", "is missing; give the object a name")
    if document.get("apiVersion") != API_VERSION:
        raise SpecError(kind, name, "apiVersion", f"is not {API_VERSION}; write apiVersion: {API_VERSION}")
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise SpecError(kind, name, "spec", "is missing; see docs/reference.md for its fields")
    return name, spec


def _below_spec(field: str) -> str:
    return f"spec.{field}" if field else "spec"

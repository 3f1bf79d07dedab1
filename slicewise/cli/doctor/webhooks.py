"""The webhook configurations: ours against those of the engines, and against the namespaces that opted in.

Engines are recognised by what their entries call, not by the configuration's name: Helm releases rename that.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from admission.webhook_configuration import ALWAYS_FAIL
from slicewise.api import keys
from slicewise.api.policy import BUILT_IN, LabelSelector
from slicewise.cli.doctor.cluster import Patient, is_our_webhook, named, webhook_entries
from slicewise.cli.doctor.findings import Finding
from slicewise.cli.doctor.installation import installed
from slicewise.kube.object_types import MUTATING, VALIDATING
from slicewise.kube.snapshot import Object

_SLOW: Final = 10
_SOON: Final = timedelta(days=7)
_SHIPPED: Final = "Put it back as manifests/mutating.yaml or the chart has it."


def check(patient: Patient) -> Iterator[Finding]:
    """Everything about both configurations."""
    if not patient.saw(MUTATING) or not installed(patient):
        return
    mutating = patient.snapshot.of(MUTATING)
    ours = [item for item in mutating if is_our_webhook(item)]
    if not ours:
        yield Finding(
            "WebhookMissing",
            "MutatingWebhookConfiguration",
            keys.CONFIGURATION,
            "there is no mutating webhook configuration of Slicewise, so nothing is rewritten",
            "Apply manifests/ or the chart again.",
        )
    for item in ours:
        yield from _order(item, [other for other in mutating if other is not item])
        yield from _entries(item, patient)
    validating = [item for item in patient.snapshot.of(VALIDATING) if is_our_webhook(item)]
    if ours and patient.saw(VALIDATING) and not validating:
        yield Finding(
            "ValidatingWebhookMissing",
            "ValidatingWebhookConfiguration",
            keys.CONFIGURATION,
            "policies and plans are checked by their definitions alone, which do not know every rule",
            "Apply manifests/validating.yaml or the chart again.",
        )
    for item in (*ours, *validating):
        yield from _trust(item, patient)


def engine_of(item: Mapping[str, Any]) -> str:
    """Whose mutating configuration it is: Kueue, Volcano or "" for somebody else's."""
    for entry in webhook_entries(item):
        service = (entry.get("clientConfig") or {}).get("service") or {}
        path, name = str(service.get("path", "")), str(entry.get("name", ""))
        if "kueue-x-k8s-io" in path or "kueue" in str(service.get("name", "")):
            return "Kueue"
        if name.endswith(".volcano.sh"):
            return "Volcano"
    return "Kueue" if named(item).startswith("kueue-") else ""


def _order(item: Object, others: Iterable[Object]) -> Iterator[Finding]:
    earlier = [
        (engine, named(other))
        for other in others
        if (engine := engine_of(other)) and named(other) < named(item)
    ]
    if earlier:
        listed = " and ".join(f"{engine}'s {name}" for engine, name in sorted(earlier))
        yield Finding(
            "WebhookOrder",
            "MutatingWebhookConfiguration",
            named(item),
            f"{listed} sorts before it, so the API server calls that one first and it sees the name that was asked for",
            f"Install the engine under a release name that sorts after {keys.CONFIGURATION!r}.",
        )


def _entries(item: Object, patient: Patient) -> Iterator[Finding]:
    kind, name = "MutatingWebhookConfiguration", named(item)
    entries = webhook_entries(item)
    never = [e["name"] for e in entries if e.get("reinvocationPolicy") != "IfNeeded"]
    if never:
        sentence = (
            f"{_listed(never)} has no reinvocationPolicy IfNeeded: a container added later keeps its name"
        )
        yield Finding("WebhookNotReinvoked", kind, name, sentence, _SHIPPED)
    chosen = [e for e in entries if e["name"] != ALWAYS_FAIL]
    failing = [e for e in chosen if _failure(e) == "Fail"]
    if 0 < len(failing) < len(chosen):
        names = [e["name"] for e in failing]
        sentence = (
            f"failurePolicy differs between its entries; only {_listed(names)} fails when nobody answers"
        )
        yield Finding("WebhookPolicyMixed", kind, name, sentence, "Give all entries the same failurePolicy.")
    slow = [e["name"] for e in failing if int(e.get("timeoutSeconds") or _SLOW) > _SLOW]
    if slow:
        sentence = f"{_listed(slow)} may keep every creation waiting for more than {_SLOW} s before it fails"
        yield Finding("WebhookSlow", kind, name, sentence, "Set timeoutSeconds to 3.")
    blocked = sorted({n for e in failing for n in _system(e, patient)})
    if blocked:
        sentence = (
            f"failurePolicy is Fail and the selector takes {', '.join(blocked)}: while no replica answers, what must "
            "start first cannot be created"
        )
        yield Finding("WebhookBlocksSystem", kind, name, sentence, _SHIPPED)
    creating = [e for e in entries if _operations(e) & {"CREATE", "*"}]
    missed = sorted({n for e in creating for n in patient.opted_in if not _selects(e, n, patient)})
    if missed:
        sentence = f"the namespaceSelector leaves out {', '.join(missed)}, which opted in: nothing is rewritten there"
        yield Finding("WebhookSkipsNamespace", kind, name, sentence, _SHIPPED)


def _failure(entry: Mapping[str, Any]) -> str:
    return str(entry.get("failurePolicy") or "Fail")


def _operations(entry: Mapping[str, Any]) -> set[str]:
    return {operation for rule in entry.get("rules") or () for operation in rule.get("operations") or ()}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _system(entry: Mapping[str, Any], patient: Patient) -> Iterator[str]:
    """System namespaces that the entry is called for, as they are or once somebody labels them."""
    service = (entry.get("clientConfig") or {}).get("service") or {}
    own = service.get("namespace") or keys.OWN_NAMESPACE
    for name in ("kube-system", own):
        labels = dict(patient.snapshot.namespaces.get(name, {}))
        if _matches(entry, name, labels) or _matches(entry, name, {**labels, keys.POLICY: BUILT_IN}):
            yield name


def _selects(entry: Mapping[str, Any], name: str, patient: Patient) -> bool:
    return _matches(entry, name, dict(patient.snapshot.namespaces[name]))


def _matches(entry: Mapping[str, Any], name: str, labels: dict[str, str]) -> bool:
    selector = entry.get("namespaceSelector") or {}
    listed = [
        {key: value for key, value in each.items() if value is not None}
        for each in selector.get("matchExpressions") or ()
    ]
    try:
        read = LabelSelector(match_labels=selector.get("matchLabels") or {}, match_expressions=listed)
    except ValidationError:
        return False  # the API server would not take it
    return read.matches({keys.NAMESPACE_NAME: name, **labels})


def _trust(item: Object, patient: Patient) -> Iterator[Finding]:
    kind, name = str(item["kind"]), named(item)
    bundles = {
        str((entry.get("clientConfig") or {}).get("caBundle") or "")
        for entry in webhook_entries(item)
        if (entry.get("clientConfig") or {}).get("service")
    }
    for bundle in sorted(bundles):
        code, sentence, fix = _bundle(bundle, patient)
        if code:
            yield Finding(code, kind, name, sentence, fix)


def _bundle(text: str, patient: Patient) -> tuple[str, str, str]:
    renew = "Restart the webhook's Deployment and look at its log; it writes the caBundle itself."
    if not text:
        return "CABundleMissing", "it has no caBundle, so the API server trusts no replica", renew
    from admission.tls.x509 import CertificateError, read_bundle  # noqa: PLC0415  cryptography loads slowly

    try:
        authorities = read_bundle(base64.b64decode(text, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError, CertificateError) as error:
        return "CABundleUnreadable", f"its caBundle holds no certificates of authorities: {error}", renew
    last = max(authority.not_after for authority in authorities)
    if last <= patient.now:
        return "CABundleExpired", f"every authority in its caBundle ended on {last:%Y-%m-%d}", renew
    if last - patient.now < _SOON:
        return "CABundleEndsSoon", f"the last authority in its caBundle ends on {last:%Y-%m-%d}", renew
    return "", "", ""

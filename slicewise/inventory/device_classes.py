"""DeviceClasses that serve the names of slices and boards where devices are published with DRA.

Of several classes with one `extendedResourceName` the scheduler uses one (k8s.io/api, resource/v1, DeviceClassSpec).
So a name has one class: that of the model, or, where several models have the profile, one over all of them; the classes
of the models then have their implicit names alone, `deviceclass.resource.kubernetes.io/<class>`.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.inventory.pool_name import model_slug, slugged
from slicewise.inventory.served_names import DeviceClass
from slicewise.inventory.sources.dra import API_VERSION, DRIVER, GPU_TYPE, MIG_TYPE, Device

Object = dict[str, Any]

# The implicit resource name ends in the class's name, and that part of a resource name has 63 characters at most.
_LONGEST: Final = 63
_DIGEST: Final = 8


def device_classes(
    devices: Iterable[Device], standing: Iterable[DeviceClass]
) -> tuple[list[Object], list[str]]:
    """Returns the DeviceClasses to apply, in the order of their names, and sentences about those that are not printed.

    `standing` are the DeviceClasses of the cluster; what carries the label `slicewise.io/managed: "true"` is ours.
    """
    complaints: list[str] = []
    others = [each for each in standing if not each.ours]
    served = {each.serves: each.name for each in others if each.serves}
    names = {each.name for each in others}
    models: dict[str, dict[str, set[Device]]] = {}
    for device in devices:
        by_model = models.setdefault(_resource(device), {})
        by_model.setdefault(model_slug(device.product), set()).add(device)
    wanted: list[Object] = []
    for resource, by_model in sorted(models.items()):
        if resource in served:
            complaints.append(
                f"{resource} is served by DeviceClass {served[resource]}, which is not ours; no class is printed for it"
            )
            continue
        division = slugged(resource.removeprefix(keys.VENDOR))
        alone = len(by_model) == 1
        classes = [
            _class(_class_name(model, division), found, resource if alone else None)
            for model, found in by_model.items()
        ]
        if not alone:
            classes.append(_class(division, set().union(*by_model.values()), resource))
        taken = sorted({each["metadata"]["name"] for each in classes} & names)
        if taken:
            complaints.append(
                f"DeviceClass {', '.join(taken)} stands and is not ours; no class is printed for {resource}; "
                "delete it, or give it another name"
            )
            continue
        wanted += classes
    return sorted(wanted, key=lambda each: str(each["metadata"]["name"])), complaints


def _resource(device: Device) -> str:
    profile = mig.parse(device.profile)
    return profile.resource if profile is not None else keys.GPU


def _class_name(model: str, division: str) -> str:
    name = f"{model}-{division}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(model.encode()).hexdigest()[:_DIGEST]
    start = model[: _LONGEST - len(division) - _DIGEST - 2].rstrip("-")
    return f"{start}-{digest}-{division}"


def _class(name: str, devices: Iterable[Device], resource: str | None) -> Object:
    found = list(devices)
    profiles = {device.profile for device in found} - {""}
    attributes = f'device.attributes["{DRIVER}"]'
    terms = [
        f'device.driver == "{DRIVER}"',
        f'{attributes}.type == "{MIG_TYPE if profiles else GPU_TYPE}"',
        _one_of(f"{attributes}.productName", {device.product for device in found}),
        *([_one_of(f"{attributes}.profile", profiles)] if profiles else []),
    ]
    return {
        "apiVersion": API_VERSION,
        "kind": "DeviceClass",
        "metadata": {"name": name, "labels": {keys.MANAGED: "true"}},
        "spec": {
            **({"extendedResourceName": resource} if resource else {}),
            "selectors": [{"cel": {"expression": " && ".join(terms)}}],
        },
    }


def _one_of(attribute: str, texts: Iterable[str]) -> str:
    """Returns the CEL term; what JSON writes of printable text is a text of CEL too."""
    quoted = [json.dumps(text, ensure_ascii=False) for text in sorted(texts)]
    return f"{attribute} == {quoted[0]}" if len(quoted) == 1 else f"{attribute} in [{', '.join(quoted)}]"

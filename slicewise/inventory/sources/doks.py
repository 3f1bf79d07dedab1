"""DigitalOcean's Kubernetes service (DOKS), boards that are given whole.

Source: docs.digitalocean.com, DOKS, "Automatic application of labels and taints to nodes": the brand and the model of a
GPU worker node. The slug of its Droplet, which is the instance type, says how many boards it has (`gpu-h100x8-640gb`).
"""

import re
from collections.abc import Mapping
from typing import Final

from slicewise.inventory.sources.facts import INSTANCE_TYPE, Facts

SOURCE: Final = "doks"
_PREFIX: Final = "doks.digitalocean.com/gpu-"
LABELS: Final = (_PREFIX,)
_SLUG: Final = re.compile(r"gpu-[a-z0-9]+x(\d+)-\d+gb", re.ASCII)
PRODUCTS: Final = {
    "h100": "NVIDIA-H100-80GB-HBM3",
    "h200": "NVIDIA-H200",
    "l40s": "NVIDIA-L40S",
}


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    model = labels.get(_PREFIX + "model", "")
    if labels.get(_PREFIX + "brand") != "nvidia" or not model:
        return None
    slug = _SLUG.fullmatch(labels.get(INSTANCE_TYPE, ""))
    return Facts(
        source=SOURCE,
        model=PRODUCTS.get(model, model),
        says_plain=True,
        devices=int(slug[1]) if slug else None,
    )

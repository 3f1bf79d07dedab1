"""Alibaba Cloud's Container Service (ACK), boards that are given whole.

Source: alibabacloud.com, ACK, "Labels of GPU-accelerated nodes". Its own sharing (cGPU) has resource names of its own,
which are left alone.
"""

import re
from collections.abc import Mapping
from typing import Final

from slicewise.inventory.sources.facts import Facts, misread, number

SOURCE: Final = "ack"
_PREFIX: Final = "aliyun.accelerator/nvidia_"
LABELS: Final = (_PREFIX,)
_MEMORY: Final = re.compile(r"(\d+)\s*(?:MiB)?", re.ASCII)


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    model = labels.get(_PREFIX + "name", "")
    if not model:
        return None
    memory = _MEMORY.fullmatch(labels.get(_PREFIX + "mem", ""))
    return Facts(
        source=SOURCE,
        model=model,
        says_plain=True,
        devices=number(labels, _PREFIX + "count"),
        memory=int(memory[1]) if memory else None,
        problems=misread(labels, _PREFIX + "count"),
    )

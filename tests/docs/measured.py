"""What `slicewise report --save` would have kept of the example cluster: made up, two weeks.

`python -m tests.docs.measured` writes it anew to docs/usage.json.gz, for the readers of docs/utilization.md.
"""

import math
from array import array
from typing import Final

from slicewise.usage import usage_file
from slicewise.usage.series import Key, Series, Usage
from tests.docs.pages import ROOT

SHIPPED: Final = ROOT / "docs/usage.json.gz"
START: Final = 1_794_790_800
STEP: Final = 3600
STEPS: Final = 14 * 24
H100: Final = "NVIDIA H100 80GB HBM3"


def write(path: str) -> None:
    """Writes it: an inference server, a training job, notebooks on shared boards, a pod that does nothing."""
    chat = [_pod("team-a", f"chat-6b9-{i}", "h100-2", f"GPU-{i}", 6_800, 0.12, phase=i) for i in range(5)]
    train = [_pod("team-a", f"pretrain-{i}", "h100-2", f"GPU-{5 + i}", 70_000, 0.93) for i in range(2)]
    lazy = [_pod("team-b", "try", "h100-2", "GPU-7", 600, 0.0)]
    notebooks = [
        _pod("team-b", f"nb-{i}", "t4-1", "GPU-t", 9_000, 0.2, model="Tesla T4", phase=3 * i)
        for i in range(2)
    ]
    owners = {("team-a", each.key.pod): ("Deployment", "chat") for each in chat}
    owners |= {("team-a", each.key.pod): ("Job", "pretrain") for each in train}
    owners |= {("team-b", each.key.pod): ("StatefulSet", each.key.pod) for each in notebooks}
    classes = {("team-a", each.key.pod): "inference" for each in chat}
    classes |= {("team-a", each.key.pod): "training" for each in train}
    usage_file.write(
        path,
        Usage(START, STEP, STEPS, [*chat, *train, *lazy, *notebooks], owners, dict(sorted(classes.items()))),
    )


def _pod(
    namespace: str,
    pod: str,
    node: str,
    board: str,
    memory: float,
    use: float,
    *,
    model: str = H100,
    phase: int = 0,
) -> Series:
    """A pod that is busiest in the afternoon of a working day."""
    waves = [_wave(START + index * STEP, phase) for index in range(STEPS)]
    uses = array("f", [round(use * wave, 4) for wave in waves])
    return Series(
        Key(namespace, pod, "main", node, board),
        model,
        "",
        0.0,
        uses,
        uses,
        array("f", [round(memory * (0.8 + 0.2 * wave)) for wave in waves]),
    )


def _wave(time: int, phase: int) -> float:
    hour, day = (time // 3600 + phase) % 24, (time // 86_400 + 3) % 7
    calm = 0.4 if day >= 5 else 1.0
    return calm * (0.55 + 0.45 * math.cos((hour - 14) / 24 * 2 * math.pi))


if __name__ == "__main__":
    write(str(SHIPPED))

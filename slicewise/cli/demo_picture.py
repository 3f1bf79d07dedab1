"""The demo's five minutes as one picture: `slicewise demo --picture FILE.svg`, which the README shows.

Two lanes over the same time: what a sum of allocatable would tell a queue, and the quota. Beside them, what becomes of
a Job. Pure: moments in, SVG out. The file needs no font, script or network, and follows light and dark.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Key = tuple[str, str]
"""Pool and resource name."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What two queues may use of one resource of a pool, and the sum of allocatable on the pool's nodes."""

    team_a: int
    team_b: int
    allocatable: int

    @property
    def total(self) -> int:
        """The quota of both queues."""
        return self.team_a + self.team_b


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of the recording: seconds since the start, what happens, and every quota after it."""

    at: int
    event: str
    quotas: Mapping[Key, Quota]


SHOWN: Final[Mapping[Key, tuple[str, str]]] = {
    ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb"): ("mig", "slices 1g.10gb"),
    ("t4-time-slicing-x10", "nvidia.com/gpu"): ("shares", "shares of T4"),
}
"""What is drawn -> class of its line, and its name."""
_TITLE: Final = (
    "While boards are divided anew and a plugin restarts, a sum of allocatable falls to zero; "
    "the quota of Slicewise holds, and moves once."
)
_END: Final = 320
_LEFT, _WIDTH, _HEIGHT = 56, 560, 130
_TOPS: Final = (70, 270)
_HIGHEST: Final = 140
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2933 } .small { font-size: 11px; fill: #52606d }
.head { font-weight: 600 } .mono { font: 12px ui-monospace, monospace } .back { fill: #fff } .panel { fill: #f5f7fa }
.axis { fill: none; stroke: #cbd2d9 } .line { fill: none; stroke-width: 2.5 }
.mig { stroke: #0967d2 } .shares { stroke: #cb6e17 }
text.mig { fill: #0967d2; stroke: none } text.shares { fill: #b44d12; stroke: none }
.stuck { fill: #cf1124; opacity: .14 } .minus { fill: #ab091e } .plus { fill: #0c6b58 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7eb } .small { fill: #9aa5b1 } .back { fill: #151b23 } .panel { fill: #1f2933 }
.axis { stroke: #52606d }
.mig { stroke: #47a3f3 } .shares { stroke: #f7b267 } text.mig { fill: #47a3f3 } text.shares { fill: #f7b267 }
.stuck { fill: #f86a6a; opacity: .22 } .minus { fill: #f29b9b } .plus { fill: #5fe3c0 } }
"""


def draw(moments: Sequence[Moment], asked: str, got: str) -> str:
    """Returns the picture as SVG.

    `moments` come in the order of time; each stands until the next. `asked` and `got` are the GPU line of a Job as it
    was submitted and as it is stored.
    """
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 440" role="img" aria-labelledby="t">',
        f'<title id="t">{_TITLE}</title>',
        f"<style>{_STYLE}</style>",
        '<rect class="back" width="960" height="440" rx="8"/>',
        _text(
            _LEFT, 30, "Five minutes of a cluster: a node is divided anew, a device plugin restarts", "head"
        ),
        *_lane(_TOPS[0], "What a sum of allocatable tells the queue", moments, naive=True),
        *_lane(_TOPS[1], "The quota that Slicewise writes", moments, naive=False),
        *_job(asked, got),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lane(top: int, title: str, moments: Sequence[Moment], *, naive: bool) -> Iterator[str]:
    base = top + _HEIGHT
    yield _text(_LEFT, top - 10, title)
    yield f'<path class="axis" d="M{_LEFT} {top}V{base}H{_LEFT + _WIDTH}"/>'
    for seconds in range(0, _END, 60):
        yield _text(_x(seconds), base + 16, f"{seconds // 60} min", "small", anchor="middle")
    for key, (style, name) in SHOWN.items():
        steps = [(moment.at, _value(moment, key, naive=naive)) for moment in moments]
        if naive:
            yield from _stuck(steps, top)
        path = f"M{_x(0)} {_y(base, steps[0][1])}" + "".join(
            f"H{_x(at)}V{_y(base, value)}" for at, value in steps[1:]
        )
        yield f'<path class="line {style}" d="{path}H{_x(_END)}"/>'
        yield _text(_x(4), _y(base, steps[0][1]) - 6, f"{name}: {steps[0][1]}", f"small {style}")


def _stuck(steps: Sequence[tuple[int, int]], top: int) -> Iterator[str]:
    """Marks the time for which a number is zero: no Job that asks for it is admitted."""
    for (at, value), (end, _) in itertools.pairwise(steps):
        if value == 0:
            width = _x(end) - _x(at)
            yield f'<rect class="stuck" x="{_x(at)}" y="{top}" width="{width}" height="{_HEIGHT}"/>'
            yield _text(_x(at) + width / 2, top + 14, "0: jobs stuck", "small minus", anchor="middle")


def _job(asked: str, got: str) -> Iterator[str]:
    left = 660
    yield f'<rect class="panel" x="{left}" y="60" width="276" height="230" rx="6"/>'
    yield _text(left + 16, 88, "What becomes of a Job", "head")
    lines = (("  resources:", ""), ("    limits:", ""), (f"-     {asked}", "minus"), (f"+     {got}", "plus"))
    for number, (line, style) in enumerate(lines):
        yield _text(left + 16, 120 + 20 * number, line, f"mono {style}")
    for number, line in enumerate(
        ("The name is one that nodes offer", "and that the queue has quota of.", "Kueue: Admitted")
    ):
        yield _text(left + 16, 226 + 20 * number, line, "plus" if line.startswith("Kueue") else "")


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    where = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {where} class="{style}" xml:space="preserve">{escape(words)}</text>'


def _value(moment: Moment, key: Key, *, naive: bool) -> int:
    quota = moment.quotas.get(key, Quota(0, 0, 0))
    return quota.allocatable if naive else quota.total


def _x(seconds: int) -> float:
    return _LEFT + _WIDTH * seconds / _END


def _y(base: int, value: int) -> float:
    return base - _HEIGHT * value / _HIGHEST

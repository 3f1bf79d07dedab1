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


Steps = Sequence[tuple[int, int]]
"""Seconds since the start, and the number from then on."""

SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    "h100-80gb-mig-mixed": ("mig", "MIG slices"),
    "t4-time-slicing-x10": ("shares", "T4 shares"),
}
"""The pools that are drawn -> class of the line, and its name. A line adds up all that a pool offers, of any size."""
_CHANGES: Final = ((30, 175, "a node is divided anew"), (200, 240, "a plugin restarts"))
"""From, to (seconds), and what goes on meanwhile."""
_TITLE: Final = (
    "While a node is divided anew and a plugin restarts, a sum of allocatable falls to zero and jobs are stuck; "
    "the quota of Slicewise holds, and moves once."
)
_END: Final = 300
_LEFT, _WIDTH, _HEIGHT = 28, 572, 132
_TOPS: Final = (104, 312)
_CARD, _CARD_WIDTH = 640, 296
_HIGHEST: Final = 66
_STYLE: Final = """
text { font: 14px system-ui, -apple-system, sans-serif; fill: #1f2933 } text.small { font-size: 12.5px; fill: #52606d }
text.title { font-size: 19px; font-weight: 600 } text.head { font-size: 15px; font-weight: 600 }
text.mono { font: 13.5px ui-monospace, SFMono-Regular, Menlo, monospace } .back { fill: #fff } .panel { fill: #f3f5f8 }
.axis { fill: none; stroke: #cbd2d9 } .change { fill: #52606d; opacity: .07 } .line { fill: none; stroke-width: 3 }
.mig { stroke: #0967d2 } .shares { stroke: #cb6e17 } text.mig { fill: #0967d2; stroke: none }
text.shares { fill: #b44d12; stroke: none } .stuck { fill: #cf1124; opacity: .16 }
text.bad { fill: #ab091e } text.good { fill: #0c6b58 } .removed { fill: #cf1124; opacity: .1 }
.added { fill: #0c6b58; opacity: .12 } .badge { fill: #0c6b58 } text.onbadge { fill: #fff; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7eb } text.small { fill: #9aa5b1 } .back { fill: #151b23 } .panel { fill: #1f2933 }
.axis { stroke: #52606d } .change { fill: #cbd2d9; opacity: .08 } .mig { stroke: #47a3f3 } .shares { stroke: #f7b267 }
text.mig { fill: #47a3f3 } text.shares { fill: #f7b267 } .stuck { fill: #f86a6a; opacity: .26 }
text.bad { fill: #f29b9b } text.good { fill: #5fe3c0 } .removed { fill: #f86a6a; opacity: .16 }
.added { fill: #5fe3c0; opacity: .16 } .badge { fill: #5fe3c0 } text.onbadge { fill: #10231e } }
"""


def draw(moments: Sequence[Moment], asked: str, to: str, count: int) -> str:
    """Returns the picture as SVG.

    `moments` come in the order of time; each stands until the next. `asked` is the GPU line of a Job as it was
    submitted; `to` and `count` are the resource that it is stored with.
    """
    quota = sum(each.team_a for (_, name), each in moments[0].quotas.items() if name == to)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 480" role="img" aria-labelledby="t">',
        f'<title id="t">{_TITLE}</title>',
        f"<style>{_STYLE}</style>",
        '<rect class="back" width="960" height="480" rx="8"/>',
        _text(_LEFT, 40, "Five minutes of a GPU cluster", "title"),
        *_lane(_TOPS[0], ("A sum of allocatable", "falls to zero, twice", "bad"), moments, naive=True),
        *_lane(_TOPS[1], ("The quota of Slicewise", "holds, and moves once", "good"), moments, naive=False),
        *_job(asked, f"{to}: {count}", f"queue team-a has {quota} of them"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lane(top: int, title: tuple[str, str, str], moments: Sequence[Moment], *, naive: bool) -> Iterator[str]:
    base = top + _HEIGHT
    what, does, style = title
    yield _text(_LEFT, top - 32, what, "head")
    yield _text(_LEFT + _WIDTH, top - 32, does, f"head {style}", anchor="end")
    for begins, ends, words in _CHANGES:
        yield _band("change", begins, ends, top - 20, _HEIGHT + 20)
        yield _text((_x(begins) + _x(ends)) / 2, top - 6, words, "small", anchor="middle")
    lines = {pool: [(each.at, _value(each, pool, naive=naive)) for each in moments] for pool in SHOWN}
    for steps in lines.values():
        yield from _stuck(steps, base)
    yield f'<path class="axis" d="M{_LEFT} {base}H{_LEFT + _WIDTH}"/>'
    for seconds in range(0, _END + 1, 60):
        anchor = {0: "start", _END: "end"}.get(seconds, "middle")
        yield _text(_x(seconds), base + 18, f"{seconds // 60} min", "small", anchor=anchor)
    for pool, steps in lines.items():
        yield from _line(pool, steps, base)


def _line(pool: str, steps: Steps, base: int) -> Iterator[str]:
    style, name = SHOWN[pool]
    first, last = steps[0][1], steps[-1][1]
    path = f"M{_x(0):g} {_y(base, first):g}" + "".join(
        f"H{_x(at):g}V{_y(base, value):g}" for at, value in steps[1:]
    )
    yield f'<path class="line {style}" d="{path}H{_x(_END):g}"/>'
    yield _text(_LEFT, _y(base, first) + 16, f"{first} {name}", f"small {style}")
    yield _text(_x(_END), _y(base, last) + 16, str(last), f"small {style}", anchor="end")


def _stuck(steps: Steps, base: int) -> Iterator[str]:
    """Marks the time for which a number is zero: no Job that asks for it is admitted."""
    for (at, value), (end, _) in itertools.pairwise(steps):
        if value == 0:
            yield _band("stuck", at, end, base - _HEIGHT, _HEIGHT)
            middle = (_x(at) + _x(end)) / 2
            for number, words in enumerate(("0:", "jobs stuck")):
                yield _text(middle, base - 102 + 16 * number, words, "small bad", anchor="middle")


def _job(asked: str, got: str, quota: str) -> Iterator[str]:
    left = _CARD + 20
    yield f'<rect class="panel" x="{_CARD}" y="24" width="{_CARD_WIDTH}" height="432" rx="8"/>'
    yield _text(left, 58, "What becomes of a Job", "head")
    lines = (
        ("  kind: Job", ""),
        ("  …", ""),
        ("    limits:", ""),
        (f"-     {asked}", "removed bad"),
        (f"+     {got}", "added good"),
    )
    for number, (line, style) in enumerate(lines):
        y = 96 + 26 * number
        shade, _, colour = style.partition(" ")
        if shade:
            yield f'<rect class="{shade}" x="{_CARD}" y="{y - 18}" width="{_CARD_WIDTH}" height="26"/>'
        yield _text(left, y, line, f"mono {colour}")
    for number, words in enumerate(("Nodes offer this name,", f"and {quota}:")):
        yield _text(left, 258 + 22 * number, words)
    yield f'<rect class="badge" x="{left}" y="304" width="118" height="34" rx="17"/>'
    yield _text(left + 59, 326, "✓ Admitted", "onbadge", anchor="middle")
    for number, words in enumerate(("Nobody typed a slice's name,", "and nobody edited a quota.")):
        yield _text(left, 380 + 22 * number, words, "small")


def _band(style: str, begins: int, ends: int, top: int, height: int) -> str:
    width = _x(ends) - _x(begins)
    return f'<rect class="{style}" x="{_x(begins):g}" y="{top}" width="{width:g}" height="{height}"/>'


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    where = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {where} class="{style}" xml:space="preserve">{escape(words)}</text>'


def _value(moment: Moment, pool: str, *, naive: bool) -> int:
    quotas = (quota for (of, _), quota in moment.quotas.items() if of == pool)
    return sum(quota.allocatable if naive else quota.total for quota in quotas)


def _x(seconds: int) -> float:
    return _LEFT + _WIDTH * seconds / _END


def _y(base: int, value: int) -> float:
    return base - _HEIGHT * value / _HIGHEST

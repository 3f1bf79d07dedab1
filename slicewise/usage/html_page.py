"""The report as one page that needs no network: no script, no font, no image but what is drawn in it."""

from collections.abc import Iterable
from html import escape
from typing import Final

from slicewise.usage.formats import DAYS, MOST_ROWS, cells, slice_limits, summary
from slicewise.usage.report import GROUPS, Hours, Report

_STYLE: Final = """
:root{--back:#fff;--text:#1c2128;--soft:#59636e;--line:#d8dee4;--used:#1a7f5a;--idle:#e3e8ed;--mark:#b35900}
@media(prefers-color-scheme:dark){:root{--back:#0f1419;--text:#e6edf3;--soft:#9aa5b1;--line:#30363d;--used:#3fb68b;
--idle:#272e36;--mark:#e0a040}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1rem;background:var(--back);color:var(--text);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p,li{margin:.25rem 0}ul{padding-left:1.2rem}.soft{color:var(--soft);font-size:.875rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:nth-child(2){text-align:left}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:9rem}th{color:var(--soft);font-weight:600}
.bar{display:block;background:var(--idle);height:.75rem;min-width:5rem}
.bar i{display:block;height:100%;background:var(--used)}
svg{display:block;width:100%;min-width:34rem;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.cell{fill:var(--used)}.none{fill:var(--idle)}.column{fill:var(--used)}.mark{stroke:var(--mark);stroke-dasharray:3 3}
svg text.marked{fill:var(--mark)}.axis{stroke:var(--line)}
@media(max-width:32rem){.bar{min-width:3rem}th{white-space:normal}th:first-child,td:first-child{min-width:7rem}
th:nth-child(4),td:nth-child(4),th:nth-child(5),td:nth-child(5){display:none}svg{min-width:0}svg text{font-size:16px}}
"""
_BINS: Final = 40


def page(report: Report) -> str:
    """Returns the whole page."""
    first, *rest = summary(report)
    parts = [
        "<h1>GPU use</h1>",
        f"<p>{escape(first)}</p>",
        _list(rest),
        *(_table(group, report.rows(group)) for group in GROUPS),
        "<h2>Hours of the week</h2>",
        '<p class="soft">Share of held GPU-hours that were used, by hour (UTC); the busiest in full colour.</p>',
        _heat(report.week),
        "<h2>Peak memory of pods</h2>",
        _peaks(report),
    ]
    if report.not_judged:
        parts += ["<h2>Not judged</h2>", _list(report.not_judged)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>GPU use</title>'
        f"<style>{_STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>"
    )


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in sentences) + "</ul>"


def _table(group: str, rows: list[tuple[str, Hours]]) -> str:
    head = "".join(
        f"<th>{word}</th>" for word in (group.title(), "Used of held", "GPU-hours", "Used", "Idle", "Idle %")
    )
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        f'<td><span class="bar"><i style="width:{100 - 100 * hours.idle_share:.1f}%"></i></span></td>'
        + "".join(f"<td>{cell}</td>" for cell in cells(hours))
        + "</tr>"
        for name, hours in rows[:MOST_ROWS]
    )
    more = f'<p class="soft">{len(rows) - MOST_ROWS} more in -o csv.</p>' if len(rows) > MOST_ROWS else ""
    return f'<h2>By {group}</h2><div class="wide"><table><tr>{head}</tr>{body}</table></div>{more}'


def _heat(week: list[Hours]) -> str:
    most = (
        max(1 - each.idle_share for each in week if each.allocated) if any(h.allocated for h in week) else 0.0
    )
    shapes = []
    for index, hours in enumerate(week):
        day, hour = divmod(index, 24)
        used = 1 - hours.idle_share
        words = f"{DAYS[day]} {hour:02}:00, {100 * used:.0f} % of {hours.allocated:.1f} GPU-hours used"
        look = (
            f'class="cell" fill-opacity="{0.08 + 0.92 * used / (most or 1):.2f}"'
            if hours.allocated
            else 'class="none"'
        )
        shapes.append(
            f'<rect x="{34 + hour * 26}" y="{16 + day * 20}" width="24" height="18" {look}>'
            f"<title>{words}</title></rect>"
        )
    shapes += [f'<text x="0" y="{30 + day * 20}">{name}</text>' for day, name in enumerate(DAYS)]
    shapes += [f'<text x="{34 + hour * 26}" y="11">{hour:02}</text>' for hour in range(0, 24, 3)]
    return _drawing("0 0 660 160", "Use by hour", shapes)


def _drawing(box: str, label: str, shapes: Iterable[str]) -> str:
    return f'<div class="wide"><svg viewBox="{box}" role="img" aria-label="{label}">{"".join(shapes)}</svg></div>'


def _peaks(report: Report) -> str:
    """Draws how many pods peaked where, and where each slice of the most common board ends."""
    peaks = report.peaks
    limits = slice_limits(report.model)
    top = max([*peaks, *(limit for limit, _ in limits), 1.0]) * 1.02
    counts = [0] * _BINS
    for peak in peaks:
        counts[min(_BINS - 1, int(peak / top * _BINS))] += 1
    most = max(*counts, 1)
    width = 600 / _BINS
    shapes = [
        f'<rect class="column" x="{20 + i * width:.1f}" y="{170 - 120 * number / most:.1f}" width="{width - 1:.1f}" '
        f'height="{120 * number / most:.1f}">'
        f"<title>{number} pods up to {(i + 1) * top / _BINS / 1024:.0f}Gi</title></rect>"
        for i, number in enumerate(counts)
        if number
    ]
    for row, (limit, name) in enumerate(limits):
        x, y = 20 + 600 * limit / top, 12 + 11 * (row % 4)
        anchor, gap = ("end", -3) if x > 560 else ("start", 3)
        shapes.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="170"/>')
        shapes.append(
            f'<text class="marked" x="{x + gap:.1f}" y="{y}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    shapes.append('<line class="axis" x1="20" x2="620" y1="170" y2="170"/>')
    shapes += [
        f'<text x="{20 + 600 * part / 4:.0f}" y="185" text-anchor="middle">{top * part / 4 / 1024:.0f}Gi</text>'
        for part in range(5)
    ]
    where = f"; dashed: what the slices of {escape(report.model)} hold" if limits else ""
    return f'<p class="soft">{len(peaks)} pods by the most memory that each ever had{where}.</p>' + _drawing(
        "0 0 640 192", "Peak memory", shapes
    )

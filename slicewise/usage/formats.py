"""Reports and advice as tables, Markdown and CSV; the page is `slicewise.usage.html_page`."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from slicewise.gpu import mig
from slicewise.usage import sizing
from slicewise.usage.advice import Advice, Saving
from slicewise.usage.report import GROUPS, Hours, Report

HEAD: Final = ("GPU-HOURS", "USED", "IDLE", "IDLE %")
MOST_ROWS: Final = 20
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BAR: Final = 24
_SHADES: Final = "·░▒▓█"


def moment(time: int) -> str:
    """Returns a Unix time as people read it, in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


def cells(hours: Hours) -> tuple[str, str, str, str]:
    """Returns the columns of `HEAD`."""
    return (
        f"{hours.allocated:.1f}",
        f"{hours.used:.1f}",
        f"{hours.idle:.1f}",
        f"{100 * hours.idle_share:.1f}",
    )


def summary(report: Report) -> list[str]:
    """Returns the findings as sentences, the largest first."""
    total = report.total
    period = f"{moment(report.start)} to {moment(report.end)} UTC, {report.days:.1f} days"
    held = f"{total.allocated:.1f} GPU-hours held, {total.used:.1f} used, {100 * total.idle_share:.1f} % idle"
    lines = [f"{period}: {held}."]
    if report.mig.allocated:
        lines.append(
            f"MIG slices: {100 * (1 - report.mig.idle_share):.1f} % of their compute used, weighed by compute slices."
        )
    lines += [
        f"{number} undivided boards of {pool} never needed more than half: MIG could divide them."
        for pool, number in report.undivided.items()
    ]
    lines += [
        f"{each.free} of {each.total} {each.resource} of {each.pool} are asked for by no pod."
        for each in report.untaken
    ]
    lines += [
        f"{each.namespace}/{each.pod} holds a GPU since {moment(each.since)} and never worked on it "
        f"({each.hours:.1f} h)."
        for each in report.untouched[:MOST_ROWS]
    ]
    if len(report.untouched) > MOST_ROWS:
        lines.append(
            f"{len(report.untouched) - MOST_ROWS} more pods hold a GPU that they never worked on (-o json)."
        )
    return lines


def bar(share: float) -> str:
    """Returns a bar of characters for a share from 0 to 1."""
    full = round(share * _BAR)
    return "█" * full + "░" * (_BAR - full)


def group_rows(report: Report, group: str, *, bars: bool) -> list[tuple[str, ...]]:
    """Returns the rows of one grouping, the largest of them."""
    return [
        (name, *cells(hours), *((bar(1 - hours.idle_share),) if bars else ()))
        for name, hours in report.rows(group)[:MOST_ROWS]
    ]


def week_plot(report: Report) -> list[str]:
    """Returns the hours of the week as lines of characters, the busiest hour in full."""
    most = max((1 - hours.idle_share for hours in report.week if hours.allocated), default=0.0) or 1.0
    rows = [report.week[day * 24 : day * 24 + 24] for day in range(7)]
    return [
        "Use by hour of the week (UTC), the busiest in full:",
        "      " + "".join(f"{hour:02}    " for hour in range(0, 24, 3)).rstrip(),
        *(
            f"  {name} " + "".join(_shade(hours, most) for hours in row)
            for name, row in zip(DAYS, rows, strict=True)
        ),
    ]


def _shade(hours: Hours, most: float) -> str:
    if not hours.allocated:
        return "  "
    return 2 * _SHADES[min(len(_SHADES) - 1, int((1 - hours.idle_share) / most * len(_SHADES)))]


def peaks_plot(report: Report) -> list[str]:
    """Returns how many pods had their peak within which slice of the most common board; nothing where it has none."""
    limits = slice_limits(report.model)
    if not limits:
        return []
    rows = []
    for (low, _), (limit, name) in pairwise([(0.0, ""), *limits]):
        number = sum(low < peak <= limit for peak in report.peaks)
        share = number / max(1, len(report.peaks))
        rows.append(f"  {name:8} {gib(limit):>8} {bar(share)} {number}")
    return [f"Pods by peak memory, against what {report.model} can be cut into:", *rows]


def slice_limits(model: str) -> list[tuple[float, str]]:
    """Returns the MiB that each slice of a board holds, and its name, smallest first; one for each amount of memory."""
    board = mig.board_of(model)
    choices = sizing.sizes(board) if board else ()
    return sorted({size.memory: size.profile or "board" for size in reversed(choices)}.items())


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table; `|` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", r"\|").replace("<", "&lt;") for cell in line) + " |"
        for line in lines
    )


def markdown(report: Report) -> str:
    """Returns the report as Markdown."""
    parts = ["# GPU use", *(f"- {line}" for line in summary(report))]
    for group in GROUPS:
        parts += [
            "",
            f"## By {group}",
            "",
            markdown_table((group.upper(), *HEAD), group_rows(report, group, bars=False)),
        ]
    if report.not_judged:
        parts += ["", "## Not judged", "", *(f"- {sentence}" for sentence in report.not_judged)]
    return "\n".join(parts)


def report_csv(report: Report) -> str:
    """Returns every row of every grouping as CSV: group, name, allocated, used, idle."""
    rows = [("total", "total", report.total), *((g, name, h) for g in GROUPS for name, h in report.rows(g))]
    return csv_table(
        ("group", "name", "allocatedHours", "usedHours", "idleHours"),
        [(g, name, f"{h.allocated:.4f}", f"{h.used:.4f}", f"{h.idle:.4f}") for g, name, h in rows],
    )


def csv_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns CSV that a spreadsheet takes for text and numbers alone."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def _safe(text: str) -> str:
    """Keeps a spreadsheet from taking a name for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "@"} or (text.startswith("-") and text != "-") else text


ADVICE_HEAD: Final = (
    "OWNER",
    "CLASS",
    "HOLDS",
    "WOULD DO",
    "PEAK",
    "MARGIN TO",
    "COMPUTE",
    "REPLICAS",
    "DAYS",
    "SURE",
)


def advice_rows(advices: Iterable[Advice]) -> list[tuple[str, ...]]:
    """Returns the columns of `ADVICE_HEAD`."""
    return [
        (
            each.owner.words,
            each.class_name,
            each.held,
            each.advised,
            gib(each.peak),
            gib(each.memory) if each.size else "-",
            f"{100 * each.compute:.0f} %" if each.size else "-",
            str(each.replicas),
            f"{each.days:.1f}",
            each.confidence if each.size else "-",
        )
        for each in advices
    ]


def gib(mebibytes: float) -> str:
    """Returns MiB as GiB, for people."""
    return f"{mebibytes / 1024:.1f}Gi"


def saving_lines(savings: Iterable[Saving]) -> list[str]:
    """Says what the advice would save, model by model."""
    return [
        f"{each.model}: {each.before} boards as held, {_saved(each.after, each.before)} as advised"
        + (f", {_saved(each.sharing, each.before)} with --allow-sharing" if each.sharing < each.after else "")
        + ", packed under the placement rules."
        for each in savings
        if each.before
    ]


def _saved(boards: int, before: int) -> str:
    return f"{boards} ({100 * (boards / before - 1):+.0f} %)"


def explanation(advice: Advice, curve: Sequence[tuple[str, float, float]]) -> str:
    """Returns what one owner's advice rests on: the curve of its memory and compute, and the rule."""
    lines = [
        f"{advice.owner.words} ({advice.class_name}) on {advice.model or 'a board that is not named'}",
        f"  seen: {advice.days:.1f} days, {advice.replicas} replicas at once, {advice.samples} samples",
        "  quantile     memory   compute",
        *(f"  {name:>8}   {gib(memory):>8}   {100 * busy:6.1f} %" for name, memory, busy in curve),
    ]
    if advice.size is None:
        return "\n".join([*lines, f"  no advice: {advice.why}"])
    size = f"{gib(advice.size.memory)}, {100 * advice.size.compute:.0f} % of the compute"
    lines += [
        f"  memory: peak {gib(advice.peak)}; within a week a replica stays below {gib(advice.memory)} but for 5 %",
        "    (exponential tail over the upper fifth of peaks of half hours or longer steps; at least the peak and 5 %)",
        f"  compute: 95 % of the time below {100 * advice.compute:.0f} % of a board",
        f"  advised: {advice.advised} ({size}); confidence {advice.confidence}",
    ]
    return "\n".join([*lines, *([f"  {advice.why}"] if advice.why else [])])

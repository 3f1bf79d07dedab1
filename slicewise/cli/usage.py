"""`slicewise report` and `slicewise advise`: what GPUs were used for, and the smallest size that would have done.

Both only read. What was measured comes from Prometheus or a file, the cluster from a snapshot or the live one.
"""

import difflib
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from typing import Final

from slicewise.api.errors import BadInput
from slicewise.cli.errors import Failed
from slicewise.cli.inputs import READ_WORK, cluster, cluster_arguments
from slicewise.cli.output import Listing, lines, output_argument, reference, table, tell, to_yaml, write
from slicewise.cli.variables import said_by, variable_argument
from slicewise.usage import advice as advising
from slicewise.usage import formats, html_page, sizing, usage_file
from slicewise.usage.ownership import Cluster, cluster_of, remember
from slicewise.usage.report import GROUPS, Report, report
from slicewise.usage.series import Usage, seen

_DAYS: Final = 14.0
_NO_CHANGE: Final = (
    "No class of a policy changes: not all who are in one could be judged, or none needs less."
)
_UNITS: Final = {"h": 1 / 24, "d": 1.0, "w": 7.0}


def _period(text: str) -> float:
    """Returns days."""
    unit = _UNITS.get(text[-1:])
    number = text[:-1]
    if unit is None or not number.isdecimal() or not 0 < int(number) * unit <= 400:
        raise ArgumentTypeError(f"{text!r} is no period: write for example 14d, 36h or 2w, at most 400d")
    return int(number) * unit


def _unix(text: str) -> int:
    try:
        return int(usage_file.seconds(text))
    except BadInput as error:
        raise ArgumentTypeError(str(error)) from None


def _between(least: float, most: float, what: str) -> Callable[[str], float]:
    """Returns what reads a number between two others."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text!r} is no number of {what} from {least:g} to {most:g}")
        return value

    return read


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return value


def _source_arguments(parser: ArgumentParser) -> None:
    cluster_arguments(parser)
    source = parser.add_mutually_exclusive_group()
    variable_argument(source, "--prometheus", None, "a Prometheus that scrapes dcgm-exporter", metavar="URL")
    source.add_argument(
        "--usage", metavar="FILE", help="what `slicewise report --save` wrote, or CSV: pod,time,use,memory"
    )
    variable_argument(parser, "--prometheus-token-file", None, "bearer token", metavar="FILE")
    variable_argument(parser, "--prometheus-ca-file", None, "certificates that sign its own", metavar="FILE")
    parser.add_argument(
        "--prometheus-timeout",
        type=_between(0.1, 3600, "seconds"),
        default=60.0,
        metavar="SECONDS",
        help="of one query (default 60)",
    )
    parser.add_argument("--period", type=_period, metavar="14d", help="how far to look back (default 14d)")
    parser.add_argument(
        "--until",
        type=_unix,
        metavar="TIME",
        help="end of the period: Unix seconds or RFC 3339 (default now)",
    )
    parser.add_argument(
        "--save", metavar="FILE", help="keep what was measured, for --usage (.gz: compressed)"
    )
    parser.add_argument("--model", default="", metavar="PRODUCT", help="board of series that name none")


def report_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `report`."""
    _source_arguments(parser)
    output_argument(parser, "csv", "markdown", "html")
    parser.add_argument(
        "--fail-above", type=_percent, metavar="PERCENT", help="exit 1 when more of the GPU-hours were idle"
    )


def advise_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `advise`."""
    _source_arguments(parser)
    output_argument(
        parser,
        "csv",
        "tests",
        "policy",
        "diff",
        help_text="; tests is YAML for `slicewise test`, policy the changed SlicingPolicies, diff the same as a diff",
    )
    parser.add_argument(
        "--least-days",
        type=_between(0, 400, "days"),
        default=1.0,
        metavar="DAYS",
        help="no advice on less history (default 1)",
    )
    parser.add_argument(
        "--allow-sharing",
        action="store_true",
        help="advise boards shared in time where peaks seldom meet; nothing isolates those who share",
    )
    parser.add_argument(
        "--explain", metavar="OWNER", help="the curve and the rule of one owner (namespace/kind/name)"
    )
    parser.add_argument(
        "--fail-above", type=_percent, metavar="PERCENT", help="exit 1 when more of the GPU-hours were idle"
    )


def _read(options: Namespace) -> tuple[Usage, Cluster]:
    if options.save:
        usage_file.require_writable(options.save)
    if options.usage and (options.period is not None or options.until is not None):
        raise BadInput(
            "--period and --until are for --prometheus, and a file of use has its own period; leave them out"
        )
    known = cluster_of(cluster(options, READ_WORK))
    if options.usage:
        usage = usage_file.read(options.usage)
    elif options.prometheus:
        # Imported here: the libraries of the network load slowly.
        from slicewise.usage.prometheus import PrometheusError, Source, collect  # noqa: PLC0415

        source = Source(
            options.prometheus,
            options.prometheus_token_file,
            options.prometheus_ca_file,
            options.prometheus_timeout,
        )
        try:
            usage = collect(
                source, options.period or _DAYS, options.until, _progress if sys.stderr.isatty() else None
            )
        except PrometheusError as error:
            texts = {
                "--prometheus": source.url,
                "--prometheus-token-file": source.token_file,
                "--prometheus-ca-file": source.ca_file,
            }
            about = (
                said_by(flag, text) for flag, text in texts.items() if text and str(error).startswith(text)
            )
            raise Failed(f"{next(about, '')}{error}") from None
    else:
        raise BadInput("nothing says what was used; give --prometheus URL or --usage FILE")
    for each in usage.series:
        each.model = each.model or options.model
    if options.save:
        remember(usage, known)
        usage_file.write(options.save, usage)
    return usage, known


def _progress(done: int, of: int) -> None:
    """Says over what it said before how far the reading is."""
    end = "\n" if done == of else ""
    sys.stderr.write(f"\r{formats.bar(done / max(1, of))} {done} of {of} queries {end}")
    sys.stderr.flush()


def run_report(options: Namespace) -> int:
    """Prints what GPUs were used for; exits 1 when more than --fail-above was idle."""
    usage, known = _read(options)
    found = report(usage, known)
    match options.output:
        case "csv":
            write(formats.report_csv(found), end="")
        case "markdown":
            write(formats.markdown(found))
        case "html":
            write(html_page.page(found))
        case _:
            names = [reference(*name.split("/")[1:]) for name, _ in found.rows("owner")]
            Listing.of(names, found.document(), partial(_report_table, found)).print(options.output)
    return _verdict(found, options)


def _verdict(found: Report, options: Namespace) -> int:
    idle = 100 * found.total.idle_share
    if options.fail_above is not None and idle > options.fail_above:
        tell(f"{idle:.1f} % of the GPU-hours were idle, more than --fail-above {options.fail_above:g}")
        return 1
    return 0


def _report_table(found: Report, wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    bars = wide or sys.stdout.isatty()
    parts = formats.summary(found)
    for group in GROUPS:
        head = (group.upper(), *formats.HEAD, *(("USED",) if bars else ()))
        parts += ["", table(head, formats.group_rows(found, group, bars=bars))]
    if bars:
        parts += ["", *formats.week_plot(found), "", *formats.peaks_plot(found)]
    if found.not_judged:
        parts += ["", "Not judged:", *(f"  {sentence}" for sentence in found.not_judged)]
    return "\n".join(parts)


def run_advise(options: Namespace) -> int:
    """Prints the smallest size that would have done; exits 1 when more than --fail-above was idle."""
    usage, known = _read(options)
    advices = advising.advise(usage, known, options.least_days, allow_sharing=options.allow_sharing)
    if options.explain and options.output != "table":
        raise BadInput(f"--explain is words for people, without -o {options.output}; leave one out")
    if options.explain:
        write(_explained(advices, options.explain))
        return 0
    savings = advising.savings(advices)
    match options.output:
        case "csv":
            write(formats.csv_table(formats.ADVICE_HEAD, formats.advice_rows(advices)), end="")
        case "tests":
            write(to_yaml([advising.tests(advices, known, options.snapshot or ())]), end="")
        case "policy":
            changed = advising.changed_policies(advices, known)
            write(to_yaml(map(advising.policy_document, changed)), end="")
            if not changed:
                tell(_NO_CHANGE)
        case "diff":
            write(_diff(advices, known), end="")
        case _:
            names = [reference(each.owner.kind, each.owner.name) for each in advices]
            document = {
                "owners": [each.document() for each in advices],
                "boards": [
                    {"model": s.model, "before": s.before, "after": s.after, "sharing": s.sharing}
                    for s in savings
                ],
            }
            Listing.of(names, document, lambda _: _advice_table(advices, savings)).print(options.output)
    return _verdict(report(usage, known), options) if options.fail_above is not None else 0


def _advice_table(advices: list[advising.Advice], savings: list[advising.Saving]) -> str:
    if not advices:
        return "No pod held a GPU in this period."
    parts = [table(formats.ADVICE_HEAD, formats.advice_rows(advices)), ""]
    parts += formats.saving_lines(savings)
    reasons = [f"  {each.owner.words}: {each.why}" for each in advices if each.why]
    return "\n".join([*parts, *(["", "Why:", lines(reasons)] if reasons else [])])


def _explained(advices: list[advising.Advice], name: str) -> str:
    found = [
        each for each in advices if name in {each.owner.words, f"{each.owner.namespace}/{each.owner.name}"}
    ]
    if not found:
        known = ", ".join(each.owner.words for each in advices[:5]) or "none"
        raise BadInput(f"--explain {name}: there is no such owner; those of this period begin with {known}")
    return "\n\n".join(formats.explanation(each, _curve(each)) for each in found)


def _curve(each: advising.Advice) -> list[tuple[str, float, float]]:
    memory = [value for series in each.series for value in seen(series.memory)]
    busy = [value for series in each.series for value in seen(series.busy)]
    parts = (("50 %", 0.5), ("90 %", 0.9), ("95 %", 0.95), ("99 %", 0.99), ("most", 1.0))
    return [(name, sizing.quantile(memory, part), sizing.quantile(busy, part)) for name, part in parts]


def _diff(advices: list[advising.Advice], known: Cluster) -> str:
    found: list[str] = []
    for policy in advising.changed_policies(advices, known):
        before = advising.policy_document(advising.policy_of_name(policy.name, known))
        found += difflib.unified_diff(
            to_yaml([before]).splitlines(keepends=True),
            to_yaml([advising.policy_document(policy)]).splitlines(keepends=True),
            f"SlicingPolicy/{policy.name} now",
            f"SlicingPolicy/{policy.name} advised",
        )
    return "".join(found) or f"{_NO_CHANGE}\n"

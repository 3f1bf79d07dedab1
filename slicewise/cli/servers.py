"""`slicewise webhook` and `slicewise controller`: flags, environment variables and logs of the two servers."""

import json
import logging
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from slicewise.api import keys
from slicewise.api.policy import PIPE_DIRECTORIES
from slicewise.cli.errors import Failed
from slicewise.cli.inputs import node_arguments, node_rules
from slicewise.cli.variables import variable_argument
from slicewise.cli.webhook_inputs import kinds_argument, templates

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DIRECTORY: Final = re.compile(r"(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _common(parser: ArgumentParser) -> None:
    variable_argument(parser, "--kubeconfig", None, "cluster to serve; left out: in-cluster", metavar="FILE")
    variable_argument(parser, "--namespace", keys.OWN_NAMESPACE, "the namespace it runs in", read=_name)
    variable_argument(
        parser,
        "--operations-listen",
        "0.0.0.0:8080",
        "address of health and metrics",
        read=_address,
        metavar="HOST:PORT",
    )
    node_arguments(parser)
    variable_argument(
        parser,
        "--gpu-operator-namespace",
        "",
        "where the files are that plan how nodes are divided; left out: look at none",
    )
    variable_argument(
        parser,
        "--authenticate",
        "false",
        "ask the API server who may read /metrics",
        read=_boolean,
        nargs="?",
        const=True,
        metavar="true|false",
    )
    variable_argument(
        parser, "--log-level", "info", "how much it says", read=_level, metavar="debug|info|warning|error"
    )
    variable_argument(parser, "--log-format", "text", "how it says it", read=_format, metavar="text|json")


def webhook_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `webhook`."""
    _common(parser)
    variable_argument(
        parser, "--listen", "0.0.0.0:9443", "address of the webhook, TLS", read=_address, metavar="HOST:PORT"
    )
    variable_argument(
        parser, "--service", "slicewise-webhook", "Service that its certificate is for", read=_name
    )
    variable_argument(
        parser, "--tls-cert-file", None, "serving certificate, instead of its own CA's", metavar="FILE"
    )
    variable_argument(parser, "--tls-private-key-file", None, "key of --tls-cert-file", metavar="FILE")
    kinds_argument(parser)
    variable_argument(
        parser,
        "--pipe-directories",
        ",".join(PIPE_DIRECTORIES),
        "directories of nodes below which a policy's pipeDirectory may be, with commas",
        read=_directories,
        metavar="DIRECTORIES",
    )
    variable_argument(parser, "--drain", "12s", "how long to go on serving after SIGTERM", read=_seconds)


def controller_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `controller`."""
    _common(parser)
    variable_argument(
        parser, "--settle", "60s", "how long a change of division must have agreed", read=_seconds
    )
    variable_argument(parser, "--hold-down", "6m", "how long a shrink is held", read=_seconds)
    variable_argument(
        parser, "--self-check", "60s", "how often the way to the webhook is tried; 0s: never", read=_seconds
    )
    variable_argument(
        parser,
        "--kueue-namespace",
        "",
        "where Kueue's configuration is, for what it charges otherwise than by name; left out: do not look",
    )
    for name, default, words in (
        ("--leader-elect", "true", "elect one of several replicas"),
        ("--keep-device-classes", "false", "keep the DeviceClasses that serve what a DRA driver publishes"),
        ("--page", "false", "serve the status page below /page/ on the operational address"),
    ):
        variable_argument(
            parser, name, default, words, read=_boolean, nargs="?", const=True, metavar="true|false"
        )


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ArgumentTypeError(f"{text!r} is no duration; write for example 60s or 6m")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)


def _directories(text: str) -> tuple[str, ...]:
    directories = tuple(text.split(","))
    for directory in directories:
        if not _DIRECTORY.fullmatch(directory):
            raise ArgumentTypeError(f"{directory!r} is no absolute path; write for example /run/nvidia/mps")
    return directories


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def _address(text: str) -> str:
    _, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ArgumentTypeError(f"{text!r} is no HOST:PORT; write for example 0.0.0.0:9443")
    return text


def _name(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ArgumentTypeError(
            f"{text!r} is no name; write at most 63 of a-z, 0-9 and -, as Kubernetes does"
        )
    return text


def _level(text: str) -> str:
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ArgumentTypeError(f"{text!r} is no log level; write debug, info, warning or error")
    return text.upper()


def _format(text: str) -> str:
    if text not in {"text", "json"}:
        raise ArgumentTypeError(f"{text!r} is no log format; write text or json")
    return text


def webhook(options: Namespace) -> int:
    """Serves the webhook until SIGTERM."""
    from admission.server import serve  # noqa: PLC0415  a quarter of a second that the other commands need not wait

    if bool(options.tls_cert_file) != bool(options.tls_private_key_file):
        raise Failed("--tls-cert-file and --tls-private-key-file go together; give both or neither")
    return _run(
        options,
        lambda: serve.serve(
            serve.Options(
                kubeconfig=options.kubeconfig,
                namespace=options.namespace,
                listen=options.listen,
                operations_listen=options.operations_listen,
                service=options.service,
                tls_cert_file=options.tls_cert_file,
                tls_private_key_file=options.tls_private_key_file,
                drain=options.drain,
                pipe_directories=options.pipe_directories,
                rules=node_rules(options),
                gpu_operator_namespace=options.gpu_operator_namespace,
                authenticate=options.authenticate,
            ),
            partial(
                serve.handlers,
                templates=templates(options),
                pipe_directories=options.pipe_directories,
                largest_maximum=options.largest_maximum,
            ),
        ),
    )


def controller(options: Namespace) -> int:
    """Runs the controller until SIGTERM."""
    from queue_sync import serve  # noqa: PLC0415  as above

    return _run(
        options,
        lambda: serve.serve(
            serve.Options(
                kubeconfig=options.kubeconfig,
                namespace=options.namespace,
                operations_listen=options.operations_listen,
                settle=options.settle,
                hold_down=options.hold_down,
                kueue_namespace=options.kueue_namespace,
                keep_device_classes=options.keep_device_classes,
                leader_elect=options.leader_elect,
                gpu_operator_namespace=options.gpu_operator_namespace,
                rules=node_rules(options),
                self_check=options.self_check,
                page=options.page,
                authenticate=options.authenticate,
                judge=judge() if options.page else None,
            )
        ),
    )


def judge() -> Callable[[str, str, Any, Any], str]:
    """Returns what explains a text with the controller's cluster and policies."""
    from admission.decision.cluster_state import ClusterState  # noqa: PLC0415  as above
    from admission.workloads.decoder import Templates  # noqa: PLC0415
    from slicewise.cli.mutate import explain_text  # noqa: PLC0415

    kinds = Templates()

    def explain(text: str, space: str, cluster: Any, policies: Any) -> str:
        plans = {plan.name: plan for plan in cluster.plans}
        known = ClusterState(cluster.namespaces, policies, cluster.pools, plans=plans)
        return explain_text(text, space, known, kinds)

    return explain


def _run(options: Namespace, server: Callable[[], Any]) -> int:
    import uvloop  # noqa: PLC0415  the completion of the shell, which asks for the flags, need not wait for it

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if options.log_format == "json" else _Text())
    logging.basicConfig(level=options.log_level, handlers=[handler], force=True)
    return int(uvloop.run(server()))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _Text(logging.Formatter):
    """`time level logger message key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record on one line, its traceback after it."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        line = f"{at} {record.levelname.lower()} {record.name} {record.getMessage()}{extras}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)

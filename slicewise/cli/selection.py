"""Which objects a command lists, said by kubectl's own flags: `-n`, `-A` and `-l`."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterator, Mapping
from typing import Final, Literal

from slicewise.api.errors import BadInput, did_you_mean
from slicewise.api.policy import LabelExpression, LabelSelector

# kubectl's grammar of -l: Kubernetes' documentation, Labels and Selectors, "Set-based requirement".
_KEY: Final = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)"
_VALUE: Final = r"[-A-Za-z0-9_.]*"
_SET: Final = re.compile(rf"{_KEY}\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL: Final = re.compile(rf"{_KEY}\s*(?P<how>==?|!=)\s*(?P<value>{_VALUE})")
_THERE: Final = re.compile(rf"(?P<absent>!?)\s*{_KEY}")
_COMMA: Final = re.compile(r",(?![^()]*\))")


def label_argument(parser: ArgumentParser, of: str) -> None:
    """Adds `-l`; `of` says whose labels it is about."""
    parser.add_argument(
        "-l",
        "--selector",
        type=label_selector,
        default=LabelSelector(),
        metavar="LABELS",
        help=f"only {of} with these labels, as kubectl reads them: a=b, a!=b, 'a in (b,c)', a, '!a', with commas",
    )


def namespace_arguments(parser: ArgumentParser, of: str) -> None:
    """Adds `-n` and `-A` to a command that lists those of every namespace unless it is told one."""
    parser.add_argument("-n", "--namespace", default="", help=f"only {of} of this namespace")
    parser.add_argument(
        "-A",
        "--all-namespaces",
        action="store_true",
        help=f"{of} of every namespace, which is what is listed without -n; wins over it",
    )


def chosen_namespace(options: Namespace) -> str:
    """Returns the namespace that is asked for; "" for all."""
    return "" if options.all_namespaces else str(options.namespace)


def require_namespace(name: str, known: Collection[str]) -> None:
    """Refuses a namespace that is not among those of the cluster; "" is all, and without any none is known.

    Raises:
        BadInput: it is misspelt, or gone.
    """
    if sentence := no_namespace(name, known):
        raise BadInput(sentence)


def no_namespace(name: str, known: Collection[str]) -> str:
    """Returns what to say of a namespace that is not among those of the cluster; "" where nothing is to be said."""
    if not name or not known or name in known:
        return ""
    meant = did_you_mean(name, known) or "; name one that kubectl get namespaces lists"
    return f"there is no namespace {name}{meant}"


NO_NAMESPACES: Final = (
    "no Namespace was read, so none is known to have opted in; give the namespaces too "
    "(kubectl get namespaces -o yaml)"
)


def unknown_namespaces(
    named: Collection[str], known: Collection[str], made: Collection[str] = ()
) -> Iterator[str]:
    """Yields what to say of namespaces of work that the cluster does not have, in which nothing is done.

    Args:
        named: the namespaces of the work; "" is none.
        known: those of the cluster; `default` is in every cluster.
        made: those that are made with the work.
    """
    asked = {*named} - {"", *made}
    if asked and not known:
        yield NO_NAMESPACES
    for name in sorted(asked):
        if sentence := no_namespace(name, {"default", *known} if known else ()):
            yield sentence


def label_selector(text: str) -> LabelSelector:
    """Reads a label selector as kubectl's `-l` has it.

    Raises:
        ArgumentTypeError: it is none.
    """
    parts = (part.strip() for part in _COMMA.split(text)) if text.strip() else ()
    return LabelSelector(match_expressions=tuple(map(_expression, parts)))


def _expression(part: str) -> LabelExpression:
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    if match := _SET.fullmatch(part):
        values = tuple(value.strip() for value in match["values"].split(","))
        operator = "In" if match["how"] == "in" else "NotIn"
    elif match := _EQUAL.fullmatch(part):
        values = (match["value"],)
        operator = "NotIn" if match["how"] == "!=" else "In"
    elif match := _THERE.fullmatch(part):
        values = ()
        operator = "DoesNotExist" if match["absent"] else "Exists"
    else:
        raise ArgumentTypeError(
            f"{part!r} selects no labels; write for example team=a, 'team in (a,b)' or '!team'"
        )
    return LabelExpression(key=match["key"], operator=operator, values=values)


def labels_of(item: Mapping[str, object]) -> dict[str, str]:
    """Returns the labels of an object as it came."""
    metadata = item.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels or {}

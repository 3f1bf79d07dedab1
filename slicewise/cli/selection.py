"""Which objects a command lists, said by kubectl's own flags: `-n`, `-A` and `-l`."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from slicewise.api.errors import BadInput, did_you_mean
from slicewise.api.policy import LabelExpression, LabelSelector

# kubectl's grammar of -l: Kubernetes' documentation, Labels and Selectors, "Set-based requirement".
_KEY: Final = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)"
_VALUE: Final = r"[-A-Za-z0-9_.]*"
_SET: Final = re.compile(rf"{_KEY}\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL: Final = re.compile(rf"{_KEY}\s*(?P<how>==?|!=)\s*(?P<value>{_VALUE})")
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_BOUND: Final = re.compile(rf"{_KEY}\s*(?P<how>[<>])\s*(?P<number>{_NUMBER.pattern})")
_THERE: Final = re.compile(rf"(?P<absent>!?)\s*{_KEY}")
_COMMA: Final = re.compile(r",(?![^()]*\))")


def label_argument(parser: ArgumentParser, of: str) -> None:
    """Adds `-l`; `of` says whose labels it is about."""
    parser.add_argument(
        "-l",
        "--selector",
        type=label_selector,
        default=Selector(),
        metavar="LABELS",
        help=f"only {of} with these labels, as kubectl reads them: a=b, a!=b, 'a in (b,c)', a, '!a', 'a>2', 'a<2', "
        "with commas",
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


@dataclass(frozen=True, slots=True)
class Selector:
    """What `-l` selects: a label selector, with bounds, which those of objects do not have."""

    labels: LabelSelector = field(default_factory=LabelSelector)
    bounds: tuple[tuple[str, str, int], ...] = ()
    """Key, `<` or `>`, and the number that the label's value is to be below or above."""

    def matches(self, labels: dict[str, str]) -> bool:
        """True when the labels meet every requirement; what is no number is neither below nor above one."""
        return self.labels.matches(labels) and all(
            _NUMBER.fullmatch(value := labels.get(key, ""))
            and (int(value) > bound if sign == ">" else int(value) < bound)
            for key, sign, bound in self.bounds
        )


def label_selector(text: str) -> Selector:
    """Reads a label selector as kubectl's `-l` has it.

    Raises:
        ArgumentTypeError: it is none.
    """
    parts = [part.strip() for part in _COMMA.split(text)] if text.strip() else []
    bounds = {part: match for part in parts if (match := _BOUND.fullmatch(part))}
    return Selector(
        LabelSelector(match_expressions=tuple(_expression(part) for part in parts if part not in bounds)),
        tuple((match["key"], match["how"], int(match["number"])) for match in bounds.values()),
    )


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

"""The selector of a DeviceClass: the part of CEL that such selectors are written in, evaluated exactly.

Read are `device.driver`, `device.attributes["gpu.nvidia.com"].<name>`, texts, whole numbers, `true` and `false`, with
`==`, `!=`, `in [...]`, `!`, `&&`, `||` and brackets. Anything else is no guess: the class is said to be unreadable.
As in CEL, an attribute that a device does not have makes no device match.
"""

import ast
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from slicewise.inventory.sources.dra import DRIVER, Attribute, PublishedDevice

_Term = Callable[[PublishedDevice], Attribute]

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign>&&|\|\||==|!=|[!()\[\].,]))"""
)
_LONGEST: Final = 10240  # k8s.io/api, CELSelectorExpressionMaxLength
_DEEPEST: Final = 32


class SelectorError(ValueError):
    """A selector that is not read here; says what of it."""


class _MissingError(Exception):
    """An attribute that the device does not have."""


def selects(expression: str, device: PublishedDevice) -> bool:
    """True when a selector takes a device.

    Raises:
        SelectorError: it cannot be read here.
    """
    term = _parsed(expression)
    try:
        return term(device) is True
    except _MissingError:
        return False


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> _Term:
    parser = _Parser(expression)
    term = parser.any_of()
    parser.end()
    return term


class _Parser:
    def __init__(self, expression: str) -> None:
        if len(expression) > _LONGEST:
            raise SelectorError(f"it is longer than {_LONGEST} characters")
        self._tokens: list[tuple[str, str]] = []
        self._depth = 0
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None:
                raise SelectorError(
                    f"it has {expression[position : position + 20].strip()!r}, which is not read"
                )
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()

    def any_of(self) -> _Term:
        terms = [self._all_of()]
        while self._take("||"):
            terms.append(self._all_of())
        return terms[0] if len(terms) == 1 else lambda device: _joined(terms, device, decisive=True)

    def end(self) -> None:
        if self._tokens:
            raise SelectorError(f"it has {self._tokens[0][1]!r} where it should end")

    def _all_of(self) -> _Term:
        terms = [self._relation()]
        while self._take("&&"):
            terms.append(self._relation())
        return terms[0] if len(terms) == 1 else lambda device: _joined(terms, device, decisive=False)

    def _relation(self) -> _Term:
        left = self._unary()
        if self._take("=="):
            right = self._unary()
            return lambda device: _same(left(device), right(device))
        if self._take("!="):
            other = self._unary()
            return lambda device: not _same(left(device), other(device))
        if self._take("in"):
            these = self._list()
            return lambda device: any(_same(left(device), each(device)) for each in these)
        return left

    def _list(self) -> list[_Term]:
        self._need("[")
        found = [self._unary()]
        while self._take(","):
            found.append(self._unary())
        self._need("]")
        return found

    def _unary(self) -> _Term:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SelectorError(f"it is nested more than {_DEEPEST} deep")
        if self._take("!"):
            term = _negated(self._unary())
        elif self._take("("):
            term = self.any_of()
            self._need(")")
        else:
            term = self._value()
        self._depth -= 1
        return term

    def _value(self) -> _Term:
        group, text = self._tokens.pop(0) if self._tokens else ("", "")
        if group == "text":
            value: Attribute = _unquoted(text)
        elif group == "number":
            value = int(text)
        elif text in {"true", "false"}:
            value = text == "true"
        elif text == "device":
            return self._field()
        else:
            raise SelectorError(f"it has {text!r}, which is not read" if text else "it ends too early")
        return lambda _: value

    def _field(self) -> _Term:
        self._need(".")
        if self._take("driver"):
            return lambda _: DRIVER
        self._need("attributes")
        self._need("[")
        driver = self._text()
        self._need("]")
        if self._take("["):
            name = self._text()
            self._need("]")
        else:
            self._need(".")
            name = self._tokens.pop(0)[1] if self._tokens else ""
        if self._tokens and self._tokens[0][1] in {".", "[", "("}:
            raise SelectorError(f"it has {self._tokens[0][1]!r} after {name}, which is not read")

        def attribute(device: PublishedDevice) -> Attribute:
            if driver != DRIVER or name not in device.attributes:
                raise _MissingError
            return device.attributes[name]

        return attribute

    def _text(self) -> str:
        group, text = self._tokens.pop(0) if self._tokens else ("", "")
        if group != "text":
            raise SelectorError(f"it has {text!r} where a text should be")
        return _unquoted(text)

    def _take(self, sign: str) -> bool:
        if self._tokens and self._tokens[0] in {("sign", sign), ("name", sign)}:
            self._tokens.pop(0)
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            found = self._tokens[0][1] if self._tokens else "its end"
            raise SelectorError(f"it has {found} where {sign} should be")


def _negated(term: _Term) -> _Term:
    return lambda device: term(device) is False


def _joined(terms: Iterable[_Term], device: PublishedDevice, *, decisive: bool) -> bool:
    """`||` (decided by a true term) or `&&` (by a false one); a term that decides makes up for one that fails."""
    failed = None
    for term in terms:
        try:
            if term(device) is decisive:
                return decisive
        except _MissingError as error:
            failed = error
    if failed is not None:
        raise failed
    return not decisive


def _same(one: Attribute, other: Attribute) -> bool:
    return type(one) is type(other) and one == other


def _unquoted(text: str) -> str:
    """The escapes of CEL that JSON and Python write are the same in all three."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise SelectorError(f"it has {text}, which is no text") from error
    return str(value)

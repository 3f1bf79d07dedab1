"""Kubernetes quantities, read exactly.

The grammar is that of apimachinery's `resource.Quantity`: a signed decimal with an optional binary (`Ki`…`Ei`)
or decimal (`n`…`E`) suffix or a decimal exponent.
"""

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final, TypeGuard

MOST: Final = 1_000_000
"""No share, and no number of devices, is larger."""

_GRAMMAR: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?",
    re.ASCII,
)
_SCALE: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
MEBIBYTE: Final = 2**20
CPU: Final = "cpu"
LEAST_SLICE: Final = 64
"""MiB: who asks for less has left out the unit, for no slice is that small."""
_LONGEST: Final = 100
# Digits enough for the longest number times or over the largest scale: nothing here is ever rounded.
_EXACT: Final = Context(prec=2 * _LONGEST)
# apimachinery, resource.Quantity: no quantity is greater in magnitude.
_GREATEST: Final = 2**63 - 1


class QuantityError(ValueError):
    """The text is no quantity, or not one of the kind that is wanted."""


def parse(text: object) -> Decimal:
    """Returns the exact value of a quantity as JSON or YAML carries it (a string or a number).

    Raises:
        QuantityError: the value is not a quantity (a template such as `$(params.gpus)`, say).
    """
    if _is_plain(text):
        return Decimal(text)
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise QuantityError(f"{_shown(text)} is not a quantity")
    if isinstance(text, int) and abs(text) > _GREATEST:
        raise QuantityError("the number is more than a quantity can hold")
    match = _GRAMMAR.fullmatch(str(text))
    if match is None or len(match["number"]) > _LONGEST:
        raise QuantityError(f"{_shown(text)} is not a quantity")
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix is None:
        return number
    if suffix in _SCALE:
        return _EXACT.multiply(number, _SCALE[suffix])
    return number.scaleb(int(suffix[1:]), _EXACT)


def _is_plain(text: object) -> TypeGuard[str]:
    """True for digits alone, as nearly every count of devices and every quota is written."""
    return type(text) is str and len(text) < 19 and text.isdecimal() and text.isascii()


def _shown(text: object) -> str:
    """Shows what was written, or the beginning of it."""
    whole = repr(text)
    return whole if len(whole) <= _LONGEST else whole[:_LONGEST] + "…"


def count(text: object) -> int:
    """Returns a quantity that must be whole and not negative, as extended resources must be.

    Raises:
        QuantityError: the value is no quantity, is negative or has a fraction.
    """
    if _is_plain(text):
        return int(text)
    value = parse(text)
    if value < 0 or value != value.to_integral_value():
        raise QuantityError(f"{_shown(text)} is not a whole number of devices")
    if value > _GREATEST:
        raise QuantityError(f"{_shown(text)} is more than a quantity can hold")
    return int(value)


def mebibytes(text: object) -> int:
    """Returns a memory quantity in MiB, rounded up so that what fits really fits.

    Raises:
        QuantityError: the value is no quantity, not above zero, or more than Kubernetes can hold.
    """
    value = parse(text)
    if value <= 0:
        raise QuantityError(f"{_shown(text)} is not an amount of memory above zero")
    if value > _GREATEST:
        raise QuantityError(f"{_shown(text)} is more than a quantity can hold")
    return int(_EXACT.divide(value, Decimal(MEBIBYTE)).to_integral_value(ROUND_CEILING))


def slice_mebibytes(text: object) -> int:
    """Returns in MiB, rounded up, what a slice must hold.

    Raises:
        QuantityError: the value is no quantity of memory, or less than any slice has.
    """
    found = mebibytes(text)
    if found < LEAST_SLICE:
        raise QuantityError(f"{_shown(text)} is below {LEAST_SLICE}Mi, the least of a slice")
    return found


def scaled(resource: str, quantity: object, unreadable: int = 0) -> Decimal:
    """Returns a quantity in the units that quota counts in: thousandths of a cpu, and whole ones of everything else.

    Never raises: what cannot be read counts as `unreadable`.
    """
    try:
        value = parse(quantity)
    except QuantityError:
        return Decimal(unreadable)
    return _EXACT.multiply(value, 1000) if resource == CPU else value


def equal(one: object, other: object) -> bool:
    """True when two quantities have the same value, however they are written."""
    try:
        return parse(one) == parse(other)
    except QuantityError:
        return one == other


def above(one: object, other: object) -> bool:
    """True when one quantity is more than another, or either cannot be read."""
    try:
        return parse(one) > parse(other)
    except QuantityError:
        return True


def value_of(quantity: object) -> Decimal:
    """The value of a quantity; 0 where it cannot be read."""
    try:
        return parse(quantity)
    except QuantityError:
        return Decimal(0)

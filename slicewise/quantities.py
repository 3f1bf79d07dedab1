"""Kubernetes quantities, read exactly.

The grammar is that of apimachinery's `resource.Quantity`: a signed decimal with an optional binary (`Ki`…`Ei`)
or decimal (`n`…`E`) suffix or a decimal exponent.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_GRAMMAR: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?"
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


class QuantityError(ValueError):
    """The text is no quantity, or not one of the kind that is wanted."""


def parse(text: object) -> Decimal:
    """Returns the exact value of a quantity as JSON or YAML carries it (a string or a number).

    Raises:
        QuantityError: the value is not a quantity (a template such as `$(params.gpus)`, say).
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise QuantityError(f"{text!r} is not a quantity")
    match = _GRAMMAR.fullmatch(str(text))
    if match is None:
        raise QuantityError(f"{text!r} is not a quantity")
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix is None:
        return number
    if suffix in _SCALE:
        return number * _SCALE[suffix]
    return number.scaleb(int(suffix[1:]))


def count(text: object) -> int:
    """Returns a quantity that must be whole and not negative, as extended resources must be.

    Raises:
        QuantityError: the value is no quantity, is negative or has a fraction.
    """
    if type(text) is str and text.isdecimal() and text.isascii():  # nearly every request there is
        return int(text)
    value = parse(text)
    if value < 0 or value != value.to_integral_value():
        raise QuantityError(f"{text!r} is not a whole number of devices")
    return int(value)


def mebibytes(text: object) -> int:
    """Returns a memory quantity in MiB, rounded up so that what fits really fits.

    Raises:
        QuantityError: the value is no quantity or not above zero.
    """
    value = parse(text)
    if value <= 0:
        raise QuantityError(f"{text!r} is not an amount of memory above zero")
    return int((value / MEBIBYTE).to_integral_value(ROUND_CEILING))

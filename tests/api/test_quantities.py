"""Quantities: every legal spelling, read exactly."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.api.quantities import QuantityError, above, count, equal, mebibytes, parse, scaled

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("12", "12"),
        ("+12", "12"),
        ("-12", "-12"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007", "7"),
        ("1n", "0.000000001"),
        ("1u", "0.000001"),
        ("1500m", "1.5"),
        ("1k", "1000"),
        ("1M", "1000000"),
        ("1G", "1000000000"),
        ("1T", "1000000000000"),
        ("1P", "1000000000000000"),
        ("1E", "1000000000000000000"),
        ("1Ki", "1024"),
        ("1.5Mi", "1572864"),
        ("1Gi", "1073741824"),
        ("1Ti", "1099511627776"),
        ("1Pi", "1125899906842624"),
        ("1Ei", "1152921504606846976"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e+3", "1000"),
        ("1500e-3", "1.5"),
        (3, "3"),
        (1.5, "1.5"),
    ],
    ids=str,
)
def test_every_legal_spelling_is_read_exactly(text: object, value: str) -> None:
    assert parse(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 Gi",
        "1gi",
        "1K",
        "1kB",
        "1GB",
        "1e",
        "--1",
        ".",
        "1.2.3",
        "0x10",
        "1_000",
        "one",
        "$(params.gpus)",
        "{{ gpus }}",
        "٣",  # a digit to Python, not to Kubernetes
        "nan",
        "inf",
        True,
        None,
        float("nan"),
        float("inf"),
        ["1"],
        {"value": 1},
    ],
    ids=repr,
)
def test_anything_else_is_no_quantity(text: object) -> None:
    with pytest.raises(QuantityError, match="is not a quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "devices"),
    [(2, 2), ("2", 2), ("2.0", 2), ("+2", 2), ("2000m", 2), ("1k", 1000), ("2e0", 2), ("0", 0), (2.0, 2)],
    ids=repr,
)
def test_devices_are_counted_in_every_spelling(text: object, devices: int) -> None:
    assert count(text) == devices


@pytest.mark.parametrize("text", ["-1", "1.5", "500m", 0.5, -1], ids=repr)
def test_devices_come_whole_and_not_below_zero(text: object) -> None:
    with pytest.raises(QuantityError, match="is not a whole number of devices"):
        count(text)


@pytest.mark.parametrize(
    "text",
    ["9" * 20, "1e30", "9223372036854775808", "16E", "9" * 5000, 2**63, 10**400],
    ids=lambda v: str(v)[:20],
)
def test_more_than_a_quantity_can_hold_is_none(text: object) -> None:
    with pytest.raises(QuantityError):
        count(text)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("16Gi", 16384),
        ("1Mi", 1),
        ("1", 1),
        ("1048577", 2),
        ("16G", 15259),
        ("0.5Mi", 1),
        ("1e9", 954),
        (2 * MIB, 2),
        ("1048576.0000000000000000000000000001", 2),
    ],
    ids=str,
)
def test_memory_is_rounded_up_to_mebibytes(text: object, mib: int) -> None:
    assert mebibytes(text) == mib


@pytest.mark.parametrize("text", ["0", "-1Gi", "0Gi", 0], ids=repr)
def test_memory_is_above_zero(text: object) -> None:
    with pytest.raises(QuantityError, match="is not an amount of memory above zero"):
        mebibytes(text)


@pytest.mark.parametrize("text", ["1e999", "9223372036854775808", "8Ei"])
def test_memory_is_what_a_quantity_can_hold(text: str) -> None:
    with pytest.raises(QuantityError, match="more than a quantity can hold"):
        mebibytes(text)


SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "e3": Fraction(1000),
    "e-2": Fraction(1, 100),
}
NUMBERS = st.decimals(min_value=0, max_value=10**6, places=6, allow_nan=False)


@given(NUMBERS, st.sampled_from(sorted(SUFFIXES)))
def test_memory_never_rounds_to_less_than_was_asked(number: Decimal, suffix: str) -> None:
    exact = Fraction(number) * SUFFIXES[suffix]
    if exact == 0:
        return
    mib = mebibytes(f"{number:f}{suffix}")
    assert (mib - 1) * MIB < exact <= mib * MIB


@given(NUMBERS, st.sampled_from(sorted(SUFFIXES)))
def test_a_count_is_exact_or_refused(number: Decimal, suffix: str) -> None:
    exact = Fraction(number) * SUFFIXES[suffix]
    try:
        assert count(f"{number:f}{suffix}") == exact
    except QuantityError:
        assert exact.denominator != 1


@given(st.integers(0, 2**63 - 1))
def test_whole_numbers_stay_what_they_are_as_numbers_and_as_text(number: int) -> None:
    assert count(number) == count(str(number)) == count(f"{number * 1000}m") == number


@pytest.mark.parametrize(
    ("resource", "quantity", "units"),
    [
        ("cpu", "1500m", "1500"),
        ("cpu", 2, "2000"),
        ("memory", "1Ki", "1024"),
        ("nvidia.com/gpu", "8", "8"),
        ("cpu", "many", "7"),
    ],
    ids=str,
)
def test_quota_counts_thousandths_of_a_cpu_and_units_of_everything_else(
    resource: str, quantity: object, units: str
) -> None:
    assert scaled(resource, quantity, unreadable=7) == Decimal(units)


def test_quantities_are_compared_by_value_and_what_cannot_be_read_is_above_everything() -> None:
    assert equal("1Ki", 1024)
    assert not equal("x", "1")
    assert equal("x", "x")
    assert above("1001m", 1)
    assert not above("1000m", 1)
    assert above("x", 1)
    assert above(1, "x")

"""Quantities. The table is what upstream's ParseQuantity and String give (resource.Quantity, API level 1.36)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import quantity
from minik8s.api.quantity import BAD_SUFFIX, BINARY, FORMAT_WRONG, parse

CANONICAL = {
    "0": "0", "0Gi": "0", "-0": "0", ".": "0", "0.0": "0",
    "1024Mi": "1Gi", "1000Mi": "1000Mi", "1536Mi": "1536Mi", "1.5Gi": "1536Mi", "0.5Mi": "512Ki", "0.5Ki": "512", "1Ki": "1Ki",
    "100.035Ki": "102435840m", "0.000000000001Ki": "2n", "9Ei": "9223372036854775807", "-1Ki": "-1Ki",
    "0.5": "500m", "1500m": "1500m", "1000m": "1", "0.0001": "100u", "2000": "2k", "1000k": "1M", "1.5": "1500m",
    "3.001n": "4n", "0.9n": "1n", ".001": "1m", "1.G": "1.G", "12E": "12E", "1000E": "1000E",
    "1e9": "1e9", "1E3": "1E3", "1e3": "1e3", "1.2e3": "1200", "0.5e0": "500e-3", "1e14": "100e12", "1e-3": "1e-3",
    "+5": "+5", "005": "005", "1.250": "1.250", "100m": "100m", "64Gi": "64Gi", "1.25": "1250m",
}  # fmt: skip


@pytest.mark.parametrize(("written", "shown"), CANONICAL.items())
def test_canonical_form(written: str, shown: str) -> None:
    assert quantity.canonical(written) == shown


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1..5", "5GiB", "1e3m", "٣", "Non-Numeric", "1m\n"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert str(raised.value) == FORMAT_WRONG


@pytest.mark.parametrize("text", ["1i", "1e", "1mm", "1kM", "1e+", "1e99999999", "1-3", "--1"])
def test_what_is_no_suffix(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert str(raised.value) == BAD_SUFFIX


def test_rounds_away_from_zero() -> None:
    assert (parse("1500m").value, parse("-1500m").value) == (2, -2)
    assert (parse("100u").milli, parse("2").milli, parse("1Ki").value) == (1, 2000, 1024)


def test_zero_takes_the_other_form() -> None:
    assert str(parse("0") + parse("1Gi")) == "1Gi"
    assert str(parse("0") - parse("1Gi")) == "-1Gi"
    assert str(parse("1Gi") + parse("1024Mi")) == "2Gi"
    assert str(parse("1") + parse("500m")) == "1500m"


def test_comparison_is_of_values() -> None:
    assert parse("1Gi") == parse("1024Mi")
    assert hash(parse("1Gi")) == hash(parse("1024Mi"))
    assert parse("999m") < parse("1") <= parse("1000m") < parse("10000T") != parse("100Gi")
    assert parse("-1m") < 0 < parse("1n")


@pytest.mark.parametrize(("value", "shown"), [(5, "5"), (0.1, "100m"), (1e3, "1k"), (" 1Gi ", "1Gi"), (1000, "1k")])
def test_json_values(value: object, shown: str) -> None:
    assert str(quantity.from_json(value)) == shown


@pytest.mark.parametrize("value", [True, None, [], {}])
def test_json_values_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantity.from_json(value)


written = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**12),
    st.sampled_from(["", ".", ".5", ".001", ".125"]),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "e3", "E-3", "e+7"]),
)


@given(written)
def test_canonical_form_keeps_the_value_and_itself(text: str) -> None:
    once = quantity.canonical(text)
    assert parse(once) == parse(text)
    again = quantity.canonical(once)  # a binary amount that no binary suffix fits is written, and then read, as a decimal one
    assert parse(again) == parse(text)
    assert quantity.canonical(again) == again


@given(written, written)
def test_sums_are_exact(one: str, other: str) -> None:
    both = parse(one) + parse(other)
    assert both.nano == parse(one).nano + parse(other).nano
    assert (both - parse(other)) == parse(one)
    assert parse(str(both)) == both or both.format == BINARY


@given(st.text(max_size=12))
def test_any_text_parses_or_is_a_value_error(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert str(error) in (FORMAT_WRONG, BAD_SUFFIX)  # noqa: PT017

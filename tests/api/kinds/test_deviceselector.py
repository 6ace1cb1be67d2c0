"""What is a device selector. Rules: CELDeviceSelector; costs and types as upstream's dra compiler has them."""

import pytest

from minik8s.api.kinds.deviceselector import problem


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ('device.driver == "a" && device.attributes["a"].model == "x"', ""),
        ('device.capacity["a"].memory.compareTo(quantity("1Gi")) >= 0', ""),
        ('device.attributes["a"].version.isGreaterThan(semver("1.0.0"))', ""),
        ('device.attributes["a"].ok', ""),
        ("device.nonsense", "undefined field 'nonsense'"),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("device.", "Syntax error"),
        (f"{'device.attributes.exists(d, ' * 5}true{')' * 5}", "too complex"),
    ],
)
def test_selectors(expression: str, wrong: str) -> None:
    found = problem(expression)
    assert wrong in found
    assert bool(wrong) == bool(found)

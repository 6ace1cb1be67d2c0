"""Addresses and CIDRs in fields: KEP-4858."""

from __future__ import annotations

import pytest

from minik8s.api.kinds import addresses


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("10.9.8.7", ""),
        ("FE80:0:0:0:0:0:0:0abc", ""),
        ("banana", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("10.0.0.0/8", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("010.002.003.004", "must not have leading 0s"),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
    ],
)
def test_an_address(value: str, problem: str) -> None:
    assert [e.message.partition(f'"{value}": ')[2] for e in addresses.valid_ip("p", value)] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("10.9.8.0/24", ""),
        ("2001:db8::/64", ""),
        ("10.9.8.7", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("10.9.8.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("010.9.8.0/24", "must not have leading 0s in IP or prefix length"),
        ("10.9.8.0/024", "must not have leading 0s in IP or prefix length"),
        ("10.9.8.7/24", "must not have bits set beyond the prefix length"),
    ],
)
def test_a_network(value: str, problem: str) -> None:
    assert [e.message.partition(f'"{value}": ')[2] for e in addresses.valid_cidr("p", value)] == ([problem] if problem else [])


def test_canonical_forms() -> None:
    assert not addresses.canonical_ip("p", "2001:db8::1")
    assert 'must be in canonical form ("2001:db8::1")' in addresses.canonical_ip("p", "2001:DB8::1")[0].message
    assert 'must be in canonical form ("fd00::/112")' in addresses.canonical_cidr("p", "FD00::/112")[0].message


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("192.0.2.1", ""),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("127.1.1.1", addresses.LOOPBACK),
        ("169.254.1.1", addresses.LINK_LOCAL),
        ("224.0.0.5", addresses.LINK_LOCAL_MULTICAST),
        ("ff02::1", addresses.LINK_LOCAL_MULTICAST),
        ("224.0.1.5", ""),
    ],
)
def test_an_endpoint(value: str, problem: str) -> None:
    assert [e.message.partition(f'"{value}": ')[2] for e in addresses.endpoint_ip("p", value)] == ([problem] if problem else [])


def test_warnings_name_the_canonical_form() -> None:
    assert addresses.ip_warnings("p", "10.0.0.1") == []
    assert addresses.ip_warnings("p", "FD00::1") == [
        'p: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")'
    ]
    assert addresses.ip_warnings("p", "010.0.0.1") == ['p: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"']
    assert addresses.cidr_warnings("p", "10.0.0.1/8") == [
        'p: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)'
    ]

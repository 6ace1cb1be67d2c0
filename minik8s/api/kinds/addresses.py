"""IP addresses and CIDRs in API fields: what is valid, and the warnings for what is valid but not canonical.

Rules: KEP-4858 (strict IP and CIDR validation, on by default in 1.36).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from minik8s.api.errors import FieldError, invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
LINK_LOCAL = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
LINK_LOCAL_MULTICAST = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"


def parse_ip(text: str) -> Address | None:
    """The address, None where there is none. Leading zeros of IPv4 octets are ignored, as Go's old parser did."""
    if "%" in text:
        return None
    try:
        return ip_address(_without_zeros(text))
    except ValueError:
        return None


def parse_cidr(text: str) -> tuple[Address, Network] | None:
    """The address as written and the network it lies in, None where `text` is no CIDR."""
    host, slash, length = text.partition("/")
    address = parse_ip(host)
    if not slash or address is None or not (length.isascii() and length.isdigit()):
        return None
    try:
        return address, ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        return None


def family_of(text: str) -> str:
    """`IPv4` or `IPv6`; empty where `text` is no address."""
    address = parse_ip(text)
    return f"IPv{address.version}" if address else ""


def valid_ip(path: str, value: str) -> list[FieldError]:
    """A field that holds an address, canonical or not."""
    address = parse_ip(value)
    if address is None:
        return [invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if isinstance(address, IPv4Address) and _without_zeros(value) != value:
        return [invalid(path, value, "must not have leading 0s")]
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return [invalid(path, value, "must not be an IPv4-mapped IPv6 address")]
    return []


def canonical_ip(path: str, value: str) -> list[FieldError]:
    """A field that holds an address in canonical form (RFC 5952)."""
    errors = valid_ip(path, value)
    if not errors and str(parse_ip(value)) != value:
        errors.append(invalid(path, value, f'must be in canonical form ("{parse_ip(value)}")'))
    return errors


def valid_cidr(path: str, value: str) -> list[FieldError]:
    """A field that holds a network, canonical or not."""
    parsed = parse_cidr(value)
    if parsed is None:
        return [invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    address, network = parsed
    host, _, length = value.partition("/")
    if (isinstance(address, IPv4Address) and _without_zeros(host) != host) or str(int(length)) != length:
        return [invalid(path, value, "must not have leading 0s in IP or prefix length")]
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return [invalid(path, value, "must not have an IPv4-mapped IPv6 address")]
    if address != network.network_address:
        return [invalid(path, value, "must not have bits set beyond the prefix length")]
    return []


def canonical_cidr(path: str, value: str) -> list[FieldError]:
    """A field that holds a network in canonical form."""
    errors = valid_cidr(path, value)
    parsed = parse_cidr(value)
    if not errors and parsed and str(parsed[1]) != value:
        errors.append(invalid(path, value, f'must be in canonical form ("{parsed[1]}")'))
    return errors


def endpoint_ip(path: str, value: str) -> list[FieldError]:
    """An address that traffic is sent to: nothing local, nothing unspecified."""
    address = parse_ip(value)
    if address is None:
        return [invalid(path, value, "must be a valid IP address")]
    wrong = (
        (address.is_unspecified, f"may not be unspecified ({value})"),
        (address.is_loopback, LOOPBACK),
        (address.is_link_local, LINK_LOCAL),
        (_link_local_multicast(address), LINK_LOCAL_MULTICAST),
    )
    return [invalid(path, value, text) for is_so, text in wrong if is_so]


def both_families(values: Iterable[str]) -> bool:
    """Whether addresses or networks of both IP families are among them."""
    return {family_of(value.partition("/")[0]) for value in values} >= {"IPv4", "IPv6"}


def ip_warnings(path: str, value: str) -> list[str]:
    """What a client is told of an address that is accepted but not in canonical form."""
    address = parse_ip(value)
    if address is None or str(address) == value:
        return []
    if isinstance(address, IPv4Address) or address.ipv4_mapped:
        proper = address if isinstance(address, IPv4Address) else address.ipv4_mapped
        return [f'{path}: non-standard IP address "{value}" is invalid: use "{proper}"']
    return [f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")']


def cidr_warnings(path: str, value: str) -> list[str]:
    """What a client is told of a network that is accepted but not in canonical form."""
    parsed = parse_cidr(value)
    if parsed is None:
        return []
    address, network = parsed
    if address != network.network_address:
        single = f"{address}/{address.max_prefixlen}"
        return [f'{path}: CIDR value "{value}" is ambiguous in this context (should be "{network}" or "{single}"?)']
    if str(network) == value:
        return []
    if isinstance(address, IPv4Address):
        return [f'{path}: non-standard CIDR value "{value}" is invalid: use "{network}"']
    return [f'{path}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format ("{network}")']


def _without_zeros(text: str) -> str:
    if ":" in text:
        return text
    return ".".join(part.lstrip("0") or "0" if part.isdigit() else part for part in text.split("."))


def _link_local_multicast(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.packed[:3] == b"\xe0\x00\x00"
    return address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02

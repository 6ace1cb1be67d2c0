"""URLs, IP addresses, networks: Kubernetes' url, ip, cidr libraries. Source: their documentation, RFC 3986, Go's net/url, net/netip."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.functions import finds, library
from minik8s.api.cel.types import NAMES, struct
from minik8s.api.cel.values import Opaque

URL_TYPE = struct("kubernetes.URL", {})
IP_TYPE = NAMES["net.IP"]
CIDR_TYPE = NAMES["net.CIDR"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


# --- URLs ------------------------------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(//([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|(?:[\w.~!$&'()*+,;=<>\"-]|[^\x00-\x7f]|%[0-9A-Fa-f]{2})*)(?::(\d*))?", re.ASCII)
_USER = re.compile(r"[\w.~!$&'()*+,;=:%@-]*", re.ASCII)


class URL(Opaque):
    """A parsed URL: `port` and `query` are empty where it has none; `path` is as it was written."""

    __slots__ = ("host", "path", "port", "query", "scheme", "text")
    type = URL_TYPE

    def __init__(self, text: str) -> None:
        match = _REFERENCE.fullmatch(text)
        wrong = _url_problem(text, match)
        if match is None or wrong is not None:
            raise EvaluationError(f'URL parse error during conversion from string: parse "{text}": {wrong}')
        scheme, slashes, authority, path, query, _ = match.groups()
        self.text = text
        self.scheme = (scheme or "").lower()
        self.host = (authority or "").rpartition("@")[2]
        host = _HOST.fullmatch(self.host)
        self.port = (host[2] if host is not None else "") or ""
        self.path = path if slashes or path.startswith("/") or not scheme else ""
        self.query = query or ""

    @property
    def hostname(self) -> str:
        """The host without its port and brackets."""
        found = _HOST.fullmatch(self.host)
        return (found[1] if found is not None else self.host).strip("[]")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def _url_problem(text: str, match: re.Match[str] | None) -> str | None:
    """What Go's parser of request URIs has against it."""
    if not text:
        return "empty url"
    if any(ord(char) < 0x20 or char == "\x7f" for char in text):
        return "net/url: invalid control character in URL"
    if match is None:
        return "invalid URI for request"
    scheme, slashes, authority, path, _, _ = match.groups()
    if text.startswith(":"):
        return "missing protocol scheme"
    if not scheme and not path.startswith("/") and text != "*" and not slashes:
        return "invalid URI for request"
    if re.search("%(?![0-9A-Fa-f]{2})", path):
        at = re.search("%(?![0-9A-Fa-f]{2}).{0,2}", path)
        return f'invalid URL escape "{at.group() if at is not None else "%"}"'
    return _authority_problem(authority or "") if scheme or slashes else None


def _authority_problem(authority: str) -> str | None:
    user, at, host = authority.rpartition("@")
    if at and not _USER.fullmatch(user):
        return "net/url: invalid userinfo"
    if host.startswith("[") and "]" not in host:
        return "missing ']' in host"
    if _HOST.fullmatch(host):
        return None
    port = re.search(r"(?:\]|[^\[\]:]):([^:]*)$", host)
    if port is not None and not port[1].isdigit():
        return f'invalid port ":{port[1]}" after host'
    bad = next((char for char in host if char in ' "<>\\^`{|}'), host[:1])
    return f'invalid character "{bad}" in host name'


def url_problem(text: str) -> str | None:
    """What is wrong with a URL; None if nothing is."""
    return _url_problem(text, _REFERENCE.fullmatch(text))


def _is_url(text: str) -> bool:
    return url_problem(text) is None


_PATH_AS_IS = re.compile(r"[\w.~!$&'()*+,;=:@/%\[\]-]*", re.ASCII)


def _escaped_path(url: URL) -> str:
    if _PATH_AS_IS.fullmatch(url.path):
        return url.path
    return quote(unquote_to_bytes(url.path), safe="/$&+,:;=@")


def _query(url: URL) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in url.query.split("&"):
        name, _, value = part.partition("=")
        if part and ";" not in part and not re.search("%(?![0-9A-Fa-f]{2})", part):
            found.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return found


# --- addresses -------------------------------------------------------------------------------------------------------


class IP(Opaque):
    """An IPv4 or IPv6 address, without zone."""

    __slots__ = ("address", "size")
    type = IP_TYPE

    def __init__(self, address: Address) -> None:
        self.address = address
        self.size = address.max_prefixlen // 8

    def __str__(self) -> str:
        return str(self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class CIDR(Opaque):
    """An address and the length of its network's prefix."""

    __slots__ = ("address", "bits", "size")
    type = CIDR_TYPE

    def __init__(self, address: Address, bits: int) -> None:
        self.address = address
        self.bits = bits
        self.size = -(-bits // 8)

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """All addresses of the prefix."""
        return ipaddress.ip_network(f"{self.address}/{self.bits}", strict=False)

    def __str__(self) -> str:
        return f"{self.address}/{self.bits}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (self.address, self.bits) == (other.address, other.bits)

    def __hash__(self) -> int:
        return hash((self.address, self.bits))


def _address(text: str) -> Address:
    """EvaluationError, in upstream's words, if it is no address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        reason = f'ParseAddr("{text}"): unable to parse IP'
        raise EvaluationError(f'IP Address "{text}" parse error during conversion from string: {reason}') from None
    if "%" in text:
        raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return found


def _network(text: str) -> CIDR:
    head, slash, bits = text.rpartition("/")
    prefix = "network address parse error during conversion from string: "
    reason = f'{prefix}{prefix}netip.ParsePrefix("{text}"): '
    if not slash:
        raise EvaluationError(f"{reason}no '/'")
    try:
        address = ipaddress.ip_address(head)
    except ValueError:
        raise EvaluationError(f'{reason}ParseAddr("{head}"): unable to parse IP') from None
    if "%" in head:
        raise EvaluationError(f"{reason}IPv6 zones cannot be present in a prefix")
    if not re.fullmatch("0|[1-9][0-9]*", bits, re.ASCII):
        raise EvaluationError(f'{reason}bad bits after slash: "{bits}"')
    if int(bits) > address.max_prefixlen:
        raise EvaluationError(f"{reason}prefix length out of range")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise EvaluationError(f'{prefix}IPv4-mapped IPv6 address "{text}" is not allowed')
    return CIDR(address, int(bits))


def _contains_ip(cidr: CIDR, other: IP | str) -> bool:
    address = _address(other) if isinstance(other, str) else other.address
    return address in cidr.network


def _contains_cidr(cidr: CIDR, other: CIDR | str) -> bool:
    inner = _network(other) if isinstance(other, str) else other
    return inner.address.version == cidr.address.version and inner.bits >= cidr.bits and inner.address in cidr.network


_LINK_LOCAL_MULTICAST = ipaddress.IPv4Network("224.0.0.0/24")


def _is_link_local_multicast(ip: IP) -> bool:
    if isinstance(ip.address, ipaddress.IPv4Address):
        return ip.address in _LINK_LOCAL_MULTICAST
    return ip.address.packed[0] == 0xFF and ip.address.packed[1] & 0x0F == 0x02


def _is_global_unicast(ip: IP) -> bool:
    address = ip.address
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
        return False
    return str(address) != "255.255.255.255"


def _masked(cidr: CIDR) -> CIDR:
    return CIDR(cidr.network.network_address, cidr.bits)


_DECLARED: dict[str, Callable[..., Any]] = {
    "url(string) -> URL": URL,
    "isURL(string) -> bool": _is_url,
    "URL.getScheme() -> string": lambda url: url.scheme,
    "URL.getHost() -> string": lambda url: url.host,
    "URL.getHostname() -> string": lambda url: url.hostname,
    "URL.getPort() -> string": lambda url: url.port,
    "URL.getEscapedPath() -> string": _escaped_path,
    "URL.getQuery() -> map(string, list(string))": _query,
    "ip(string) -> IP": lambda text: IP(_address(text)),
    "isIP(string) -> bool": finds(_address),
    "'ip.isCanonical'(string) -> bool": lambda text: str(_address(text)) == text,
    "string(IP) -> string": str,
    "IP.family() -> int": lambda ip: ip.address.version,
    "IP.isUnspecified() -> bool": lambda ip: ip.address.is_unspecified,
    "IP.isLoopback() -> bool": lambda ip: ip.address.is_loopback,
    "IP.isLinkLocalUnicast() -> bool": lambda ip: ip.address.is_link_local,
    "IP.isLinkLocalMulticast() -> bool": _is_link_local_multicast,
    "IP.isGlobalUnicast() -> bool": _is_global_unicast,
    "cidr(string) -> CIDR": _network,
    "isCIDR(string) -> bool": finds(_network),
    "string(CIDR) -> string": str,
    "CIDR.ip() -> IP": lambda cidr: IP(cidr.address),
    "CIDR.containsIP(string) -> bool": _contains_ip,
    "CIDR.containsIP(IP) -> bool": _contains_ip,
    "CIDR.containsCIDR(string) -> bool": _contains_cidr,
    "CIDR.containsCIDR(CIDR) -> bool": _contains_cidr,
    "CIDR.prefixLength() -> int": lambda cidr: cidr.bits,
    "CIDR.masked() -> CIDR": _masked,
}
LIBRARY = library(_DECLARED, {"URL": URL_TYPE, "IP": IP_TYPE, "CIDR": CIDR_TYPE})

"""Which proxy a request takes: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, read as Go's programs read them (upstream's components are such).

NO_PROXY names what is reached directly: addresses, CIDRs, `example.com` (with all below it), `.example.com` (what is below it alone), each
with or without a port, or `*`; this machine itself always is. Source: golang.org/x/net/http/httpproxy. Limit: proxies that speak HTTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = ("https", "wss")


@dataclass(frozen=True)
class Proxies:
    """A user's wish. URLs of proxies for each scheme, empty for none."""

    http: str = ""
    https: str = ""
    excluded: Sequence[str] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str], never: Sequence[str] = ()) -> Proxies:
        """What the environment says, in capitals or not; `never` are further exceptions. ValueError for a proxy that can't be used."""

        def told(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        excluded = [word.strip() for word in told("NO_PROXY").split(",") if word.strip()]
        return cls(_proxy("HTTP_PROXY", told("HTTP_PROXY")), _proxy("HTTPS_PROXY", told("HTTPS_PROXY")), (*excluded, *never))

    def environment(self) -> dict[str, str]:
        """The same wish for a program; empty where there is no proxy."""
        found = {"HTTP_PROXY": self.http, "HTTPS_PROXY": self.https}
        return {**found, "NO_PROXY": ",".join(self.excluded)} if self.http or self.https else {}

    def for_url(self, url: str) -> str | None:
        """The proxy's URL; None: none."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme in _SECURE else self.http
        host = (parts.hostname or "").rstrip(".")
        if not proxy or not host or self._is_direct(host, parts.port or _PORTS.get(parts.scheme, 0)):
            return None
        return proxy

    def _is_direct(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address and address.is_loopback):
            return True
        return any(rule.fits(host, address, port) for rule in self._rules)

    @cached_property
    def _rules(self) -> Sequence[_Rule]:
        return [_rule(word.lower()) for word in self.excluded]


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class _Rule:
    """An exception: a network, or a domain and whether that itself is meant too; `port` 0 is any."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    domain: str = ""
    itself: bool = False
    port: int = 0

    def fits(self, host: str, address: Address | None, port: int) -> bool:
        if self.port not in (0, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return host.endswith("." + self.domain) or (self.itself and host == self.domain) or self.domain == "*"


def _rule(word: str) -> _Rule:
    try:
        return _Rule(ipaddress.ip_network(word, strict=False))
    except ValueError:
        host, port = _split_port(word)
    if (address := _address(host)) is not None:
        return _Rule(ipaddress.ip_network(address), port=port)
    if host.startswith(("*.", ".")):
        return _Rule(domain=host.lstrip("*").lstrip("."), port=port)
    return _Rule(domain=host, itself=True, port=port)


def _split_port(word: str) -> tuple[str, int]:
    """`host:port`, `[fd00::1]:port`, or a host alone."""
    host, colon, port = word.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port)
    return word.strip("[]"), 0


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _proxy(variable: str, text: str) -> str:
    url = text if not text or "://" in text else f"http://{text}"
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{variable}: {text!r} is no proxy that speaks HTTP")
    return url

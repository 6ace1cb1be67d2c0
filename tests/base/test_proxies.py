"""Which URLs go through a proxy: the rules of golang.org/x/net/http/httpproxy (Config.NoProxy), which upstream's programs follow."""

from __future__ import annotations

import pytest

from minik8s.base.proxies import Proxies

BOTH = {"HTTP_PROXY": "plain.proxy:3128", "https_proxy": "http://user:pw@secure.proxy:3129"}


def test_the_scheme_chooses() -> None:
    found = Proxies.of(BOTH)
    assert found.for_url("http://registry.example/v2/") == "http://plain.proxy:3128"
    assert found.for_url("https://registry.example/v2/") == "http://user:pw@secure.proxy:3129"
    assert found.for_url("wss://server:6443/tunnel") == "http://user:pw@secure.proxy:3129"
    assert Proxies.of({"HTTP_PROXY": "p:1"}).for_url("https://registry.example") is None
    assert Proxies.of({}).for_url("https://registry.example") is None
    with pytest.raises(ValueError, match="HTTPS_PROXY: 'socks5://h:1' is no proxy"):
        Proxies.of({"HTTPS_PROXY": "socks5://h:1"})


@pytest.mark.parametrize(
    ("excluded", "direct", "proxied"),
    [
        ("", "localhost 127.0.0.1 127.9.9.9 [::1]", "10.0.0.1 example.com"),
        ("*", "10.0.0.1 example.com [fd00::1]", ""),
        ("example.com", "example.com a.example.com EXAMPLE.com example.com:8443", "notexample.com example.com.org"),
        (".example.com", "a.example.com a.b.example.com", "example.com"),
        ("*.example.com", "a.example.com", "example.com"),
        ("Example.com:8443", "example.com:8443 a.example.com:8443", "example.com example.com:443"),
        ("10.0.0.0/8, fd00::/8", "10.255.0.1 10.0.0.1:6443 [fd12::1]", "11.0.0.1 [fe80::1] ten.example"),
        ("10.0.0.7", "10.0.0.7 10.0.0.7:6443", "10.0.0.8"),
        ("10.0.0.7:6443,[fd00::1]:6443", "10.0.0.7:6443 [fd00::1]:6443", "10.0.0.7 [fd00::1]"),
        (" , .svc ,.cluster.local", "a.b.svc a.b.svc.cluster.local", "svc"),
    ],
)
def test_no_proxy(excluded: str, direct: str, proxied: str) -> None:
    found = Proxies.of({**BOTH, "NO_PROXY": excluded})
    for host in direct.split():
        assert found.for_url(f"https://{host}/x") is None, host
    for host in proxied.split():
        assert found.for_url(f"https://{host}/x"), host


def test_for_a_program() -> None:
    """Nodes never ask a proxy for what is in the cluster (k3s adds the same to NO_PROXY)."""
    found = Proxies.of({**BOTH, "no_proxy": "example.com"}, never=("10.42.0.0/16", ".svc"))
    assert found.for_url("https://10.42.3.4/") is None
    assert found.environment() == {
        "HTTP_PROXY": "http://plain.proxy:3128",
        "HTTPS_PROXY": "http://user:pw@secure.proxy:3129",
        "NO_PROXY": "example.com,10.42.0.0/16,.svc",
    }
    assert Proxies.of({}, never=("10.42.0.0/16",)).environment() == {}

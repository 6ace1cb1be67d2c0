"""registries.yaml: whom a pull asks, in which order and how, and the same in containerd's words.

The rules are those of docs.k3s.io/installation/private-registry; hosts.toml's are containerd's docs/hosts.md.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from minik8s.runtime.base import Auth
from minik8s.runtime.cri.hosts import credentials, hosts, is_beyond, write_hosts
from minik8s.runtime.images.reference import parse
from minik8s.runtime.images.settings import Settings, is_local, read_settings

WHOLE = """
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "http://10.0.0.7:5000/v2/", "127.0.0.1:5001", "harbor.example/v2/proxy"]
    rewrite: {"^library/(.*)": "hub/$1"}
  quay.io: {endpoint: [https://mirror.example:5000]}
  "*": {endpoint: [https://all.example]}
configs:
  mirror.example:5000:
    auth: {username: u, password: p"w}
    tls: {ca_file: FILE, cert_file: FILE, key_file: FILE}
  docker.io: {auth: {auth: aHViOnM6Mw==}}
  all.example: {auth: {identity_token: t}, tls: {insecure_skip_verify: true}}
  private.example: {tls: {ca_file: FILE}}
  "*": {auth: {username: any, password: one}}
"""


@pytest.fixture
def whole(tmp_path: Path) -> Settings:
    return written(tmp_path, WHOLE)


def written(directory: Path, text: str) -> Settings:
    (directory / "pem").touch()
    (directory / "registries.yaml").write_text(text.replace("FILE", str(directory / "pem")))
    return read_settings(directory / "registries.yaml")


@pytest.mark.parametrize(
    ("registry", "urls"),
    [
        (
            "docker.io",
            "https://mirror.example:5000/v2 http://10.0.0.7:5000/v2 http://127.0.0.1:5001/v2 https://harbor.example/v2/proxy "
            "https://registry-1.docker.io/v2",
        ),
        ("quay.io", "https://mirror.example:5000/v2 https://quay.io/v2"),
        ("other.example:5000", "https://all.example/v2 https://other.example:5000/v2"),
        ("localhost:5000", "https://all.example/v2 http://localhost:5000/v2"),
        ("127.0.0.1:443", "https://all.example/v2 https://127.0.0.1:443/v2"),
    ],
)
def test_whom_a_pull_asks(whole: Settings, registry: str, urls: str) -> None:
    found = whole.endpoints(registry)
    assert [each.url for each in found] == urls.split()
    assert [each.own for each in found] == [False] * (len(found) - 1) + [True]


def test_how_hosts_are_spoken_to(whole: Settings) -> None:
    mirror, other, *_, own = whole.endpoints("docker.io")
    assert mirror.config.auth == Auth("u", 'p"w')
    assert mirror.config.tls.ca_file == mirror.config.tls.key_file == mirror.config.tls.cert_file != ""
    assert other.config.auth == Auth("any", "one"), "of a host that is not named"
    assert own.config.auth == Auth("hub", "s:3"), "docker.io is another host than its name says"
    everywhere, _ = whole.endpoints("elsewhere.example")
    assert (everywhere.config.auth, everywhere.config.tls.insecure_skip_verify) == (Auth("", "", "t"), True)


def test_names_at_mirrors(whole: Settings, tmp_path: Path) -> None:
    *mirrors, own = whole.endpoints("docker.io")
    assert {each.repository("library/busybox") for each in mirrors} == {"hub/busybox"}
    assert {each.repository("team/app") for each in mirrors} == {"team/app"}
    assert own.repository("library/busybox") == "library/busybox", "only mirrors have other names"
    text = "mirrors: {a.example: {endpoint: [b.example], rewrite: {'^(x)/(.*)$': '${2}-$1/$$', '^x': never}}}"
    assert written(tmp_path, text).endpoints("a.example")[0].repository("x/y") == "y-x/$"


def test_none_is_none(tmp_path: Path) -> None:
    for text in ("", "mirrors:\nconfigs:\n", "mirrors: {a: }\nconfigs: {a: }"):
        assert [each.url for each in written(tmp_path, text).endpoints("a.example")] == ["https://a.example/v2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "it is no mapping"),
        ("mirrors: [a]", "mirrors is no mapping"),
        ("mirror: {}", "it: unknown key 'mirror' (there are mirrors, configs)"),
        ("mirrors: {a: {endpoint: https://b}}", "mirrors.a.endpoint is no list of URLs"),
        ("mirrors: {a: {endpoint: ['ftp://b']}}", "mirrors.a.endpoint: 'ftp://b' is no URL of a registry"),
        ("mirrors: {a: {rewrite: {'(': b}}}", "mirrors.a.rewrite: '(': missing ), unterminated subpattern at position 0"),
        ("mirrors: {a: {rewrite: {'b': '$1'}}}", "mirrors.a.rewrite: 'b': invalid group reference 1 at position 3"),
        ("configs: {a: {auth: {user: b}}}", "configs.a.auth: unknown key 'user'"),
        ("configs: {a: {auth: {auth: b}}}", "configs.a.auth.auth is no base64 of USER:PASSWORD"),
        ("configs: {a: {tls: {cert_file: b}}}", "configs.a.tls: cert_file and key_file go together"),
        ("configs: {a: {tls: {ca_file: /none}}}", "configs.a.tls.ca_file: there is no file /none"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"registries\.yaml") as caught:
        written(tmp_path, text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("registry_name", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("10.0.0.1:5000", False),
        ("quay.io", False),
    ],
)
def test_only_the_machine_itself_is_asked_in_plain(registry_name: str, expected: bool) -> None:
    assert is_local(registry_name) is expected


# --- in containerd's words ---------------------------------------------------------------------------------------------


def test_hosts_toml(whole: Settings, tmp_path: Path) -> None:
    pem = str(tmp_path / "pem")
    write_hosts(tmp_path / "certs.d", Settings(whole.mirrors))
    (tmp_path / "certs.d/old").mkdir()
    write_hosts(tmp_path / "certs.d", whole)
    names = {path.name for path in (tmp_path / "certs.d").iterdir()}
    assert names == {"docker.io", "quay.io", "_default", "mirror.example:5000", "all.example", "private.example"}
    hub = tomllib.loads((tmp_path / "certs.d/docker.io/hosts.toml").read_text())
    both = ["pull", "resolve"]
    assert hub["server"] == "https://registry-1.docker.io"
    assert list(hub["host"].items()) == [
        ("https://mirror.example:5000", {"capabilities": both, "ca": pem, "client": [[pem, pem]]}),
        ("http://10.0.0.7:5000", {"capabilities": both}),
        ("http://127.0.0.1:5001", {"capabilities": both}),
        ("https://harbor.example/v2/proxy", {"capabilities": both, "override_path": True}),
    ]
    found = {name: tomllib.loads(text) for name, text in hosts(whole).items()}
    everywhere = {"https://all.example": {"capabilities": both, "skip_verify": True}}
    assert found["_default"] == {"host": everywhere}
    private = {"https://private.example": {"capabilities": both, "ca": pem}}
    assert found["private.example"] == {"server": "https://private.example", "ca": pem, "host": everywhere | private}
    assert found["quay.io"]["server"] not in found["quay.io"]["host"]
    assert hosts(Settings()) == {}


def test_credentials(whole: Settings) -> None:
    told = tomllib.loads(credentials(whole))["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["configs"]
    assert told["mirror.example:5000"] == {"auth": {"username": "u", "password": 'p"w'}}
    assert told["registry-1.docker.io"] == {"auth": {"username": "hub", "password": "s:3"}}
    assert told["all.example"] == {"auth": {"identitytoken": "t"}}
    assert told["harbor.example"] == told["quay.io"] == {"auth": {"username": "any", "password": "one"}}
    assert "private.example" not in told


def test_what_containerd_has_no_words_for(whole: Settings) -> None:
    """Other names at mirrors, and credentials for whoever is not named."""
    assert is_beyond(whole, parse("busybox"))
    assert not is_beyond(whole, parse("team/app"))
    assert not is_beyond(whole, parse("quay.io/team/app"))
    assert is_beyond(whole, parse("elsewhere.example/team/app"))
    assert not is_beyond(Settings(), parse("busybox"))

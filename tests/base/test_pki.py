"""Certificates and join tokens: files, renewal, requests, and a real TLS handshake with them."""

import asyncio
import base64
import contextlib
import ssl
import stat
import time
from pathlib import Path

import pytest

from minik8s.base import jointoken, pki
from minik8s.base.clock import RealClock


class SetClock(RealClock):
    """A wall clock that stands where it is put."""

    def __init__(self, now: float) -> None:
        self.at = now

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock(time.time())


def test_a_directory_is_filled_once_and_private(tmp_path: Path, clock: SetClock) -> None:
    made = pki.ClusterPKI.load_or_create(tmp_path / "tls", clock)
    made.serving(["localhost", "127.0.0.1"])
    made.front_proxy("front-proxy-client")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert modes == {
        "server-ca.crt": 0o644,
        "server-ca.key": 0o600,
        "client-ca.crt": 0o644,
        "client-ca.key": 0o600,
        "front-proxy-ca.crt": 0o644,
        "front-proxy-ca.key": 0o600,
        "front-proxy-client.pem": 0o600,
        "service.key": 0o600,
        "serving.crt": 0o644,
        "serving.key": 0o600,
    }
    again = pki.ClusterPKI.load_or_create(tmp_path / "tls", clock)
    assert again.server_ca.pair == made.server_ca.pair
    assert again.client_ca.pair == made.client_ca.pair
    assert again.service_account_key == made.service_account_key


def test_the_serving_certificate_follows_its_names_and_its_end(tmp_path: Path, clock: SetClock) -> None:
    cluster = pki.ClusterPKI.load_or_create(tmp_path, clock)

    def shown(*names: str) -> bytes:
        return cluster.serving(names)[0].read_bytes()

    first = shown("localhost", "127.0.0.1", "0:0:0:0:0:0:0:1")
    assert shown("127.0.0.1", "::1", "localhost") == first
    assert pki.subject_names(first) == {"localhost", "127.0.0.1", "::1"}
    second = shown("localhost", "10.0.0.1")
    assert second != first
    clock.at += pki.LEAF_LIFETIME - pki.RENEW_BEFORE - 1
    assert shown("localhost", "10.0.0.1") == second
    clock.at += 2
    third = shown("localhost", "10.0.0.1")
    assert pki.expiry(third) > pki.expiry(second)
    assert pki.issued_by(third, cluster.server_ca.pair)
    assert not pki.issued_by(third, cluster.client_ca.pair)


async def test_a_renewed_certificate_is_shown_to_who_connects_then(tmp_path: Path, clock: SetClock) -> None:
    """What the server does while it runs: the context in use loads the new pair."""
    clock.at -= 300 * 24 * 3600
    found = pki.ClusterPKI.load_or_create(tmp_path / "tls", clock)
    tls = found.server_context(["localhost"])
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    port, client = server.sockets[0].getsockname()[1], pki.client_context(found.server_ca.pair.certificate)

    async def shown() -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    assert found.renewal() == pytest.approx(275 * 24 * 3600, abs=60)
    before = await shown()
    clock.at += 300 * 24 * 3600
    assert found.renewal() == 0
    tls.load_cert_chain(*found.serving(["localhost"]))
    assert await shown() != before
    assert found.renewal() > 0
    server.close()


def test_the_front_proxys_certificate_is_made_anew_before_it_ends(tmp_path: Path, clock: SetClock) -> None:
    made = pki.ClusterPKI.load_or_create(tmp_path, clock)
    first = made.front_proxy("proxy").read_bytes()
    assert made.front_proxy("proxy").read_bytes() == first
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(made.front_proxy("proxy"))  # both are in it
    assert pki.issued_by(first, made.front_proxy_ca.pair)
    clock.at += pki.LEAF_LIFETIME - pki.RENEW_BEFORE + 1
    second = made.front_proxy("proxy").read_bytes()
    assert pki.expiry(second) > pki.expiry(first)


def test_a_request_is_parsed_checked_and_signed(clock: SetClock) -> None:
    key = pki.new_key()
    request = pki.parse_request(pki.certificate_request(key, "system:node:n1", ["system:nodes"], ["n1", "10.0.0.9"]))
    assert (request.user, request.groups) == ("system:node:n1", ("system:nodes",))
    assert (request.dns_names, request.ip_addresses, request.emails, request.uris) == (("n1",), ("10.0.0.9",), (), ())
    authority = pki.Authority.create("ca", clock)
    certificate = authority.sign(request, ["digital signature", "server auth"], lifetime=600)
    assert pki.issued_by(certificate, authority.pair)
    assert pki.subject_names(certificate) == {"n1", "10.0.0.9"}
    assert pki.expiry(certificate) == int(clock.now()) + 600


def test_a_certificate_never_outlives_its_authority(clock: SetClock) -> None:
    authority = pki.Authority.create("ca", clock)
    pair = authority.client("jane", lifetime=100 * pki.CA_LIFETIME)
    assert pki.expiry(pair.certificate) == pki.expiry(authority.pair.certificate)


@pytest.mark.parametrize(
    "text", [b"nothing", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_what_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        pki.parse_request(text)


async def test_clients_may_show_a_certificate_and_a_strangers_is_refused(tmp_path: Path) -> None:
    clock = RealClock()
    cluster = pki.ClusterPKI.load_or_create(tmp_path / "tls", clock)

    def client(pair: pki.KeyPair | None) -> ssl.SSLContext:
        if pair is None:
            return pki.client_context(cluster.server_ca.pair.certificate)
        pki.write_pair(pair, tmp_path / "c.crt", tmp_path / "c.key")
        return pki.client_context(cluster.server_ca.pair.certificate, tmp_path / "c.crt", tmp_path / "c.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("ssl_object").getpeercert()
        writer.write(repr((peer or {}).get("subject")).encode())
        await writer.drain()
        writer.close()

    async def ask(pair: pki.KeyPair | None) -> str:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client(pair))
        answer = await reader.read()
        writer.close()
        return answer.decode()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=cluster.server_context(["localhost"]))
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await ask(None) == "None"
        assert "system:masters" in await ask(cluster.client_ca.client("admin", ["system:masters"]))
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # with TLS 1.3 the refusal may come as an early end
            assert await ask(pki.Authority.create("stranger", clock).client("admin", ["system:masters"])) == ""


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    pki.write_private(path, b"old")
    with pytest.raises(TypeError):
        pki.write_private(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


# --- join tokens (form: k3s) ---------------------------------------------------------------------------------------------


def test_a_token_pins_its_authority(tmp_path: Path, clock: SetClock) -> None:
    ca, other = (pki.Authority.create("ca", clock).pair.certificate for _ in range(2))
    token = jointoken.load_or_create(tmp_path / "token", jointoken.SERVER, ca)
    assert jointoken.parse(str(token)) == token
    assert str(token).startswith("K10")
    assert jointoken.pins(token, ca)
    assert not jointoken.pins(token, other)
    assert jointoken.pins(jointoken.parse("bare-secret"), other)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert jointoken.load_or_create(tmp_path / "token", jointoken.SERVER, ca) == token
    given = jointoken.load_or_create(tmp_path / "token", jointoken.SERVER, ca, "mine")
    assert given.secret == "mine"
    assert jointoken.load_or_create(tmp_path / "token", jointoken.SERVER, ca) == given


@pytest.mark.parametrize(
    "text", ["", "K10abc::server:x", f"K10{'a' * 64}::robot:x", f"K10{'a' * 64}::node:", "two words", "a::b"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="malformed token"):
        jointoken.parse(text)


def test_a_crash_while_the_serving_certificate_is_renewed_leaves_no_pair_that_does_not_fit(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = pki.ClusterPKI.load_or_create(tmp_path, clock)
    cluster.serving(["a"])
    write, written = pki.write_private, []

    def crash(path: Path, content: bytes, mode: int = 0o600) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content, mode)

    monkeypatch.setattr(pki, "write_private", crash)
    with pytest.raises(KeyboardInterrupt):
        cluster.serving(["a", "b"])
    monkeypatch.undo()
    pki.ClusterPKI.load_or_create(tmp_path, clock).server_context(["a"])


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        (bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040309")),  # the signature's algorithm
        (bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030109")),  # the key's curve
    ],
)
def test_a_request_of_unknown_algorithms_is_none(known: bytes, unknown: bytes) -> None:
    pem = pki.certificate_request(pki.new_key(), "u").decode().splitlines()
    der = base64.b64decode("".join(pem[1:-1])).replace(known, unknown)
    made = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(ValueError, match="certificate request"):
        pki.parse_request(made.encode())


@pytest.mark.parametrize("now", [1_800_000_000, 2_600_000_000])
def test_a_certificates_end_is_read_in_both_forms_of_time(clock: SetClock, now: int) -> None:
    """RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on."""
    clock.at = now
    authority = pki.Authority.create("ca", clock)
    assert pki.expiry(authority.pair.certificate) == now + pki.CA_LIFETIME
    leaf = authority.client("jane", ["a"]).certificate
    assert pki.expiry(leaf + authority.pair.certificate) == now + pki.LEAF_LIFETIME


@pytest.mark.parametrize("first", [0x17, 0x18])
def test_a_serial_number_is_never_taken_for_a_time(clock: SetClock, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 128 begins with the byte that marks a time."""
    monkeypatch.setattr("cryptography.x509.random_serial_number", lambda: first << 144 | 0x0B << 136 | 1)
    certificate = pki.Authority.create("ca", clock).pair.certificate
    assert pki.expiry(certificate) == int(clock.now()) + pki.CA_LIFETIME

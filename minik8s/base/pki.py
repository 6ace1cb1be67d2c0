"""Certificates: the cluster's authorities, the certificates that they sign, requests to be signed, and TLS contexts from them.

Promise: keys are ECDSA P-256, every file appears whole or not at all, private ones with mode 0600. Directory, as `ClusterPKI` keeps it:

    server-ca.crt|key   signs what servers show (its certificate is what clients trust: `certificate-authority` of a kubeconfig)
    client-ca.crt|key   signs who clients are (CN is the user, O are the groups)
    front-proxy-ca.crt|key      signs the API server's own certificate as a client of aggregated API servers:
    front-proxy-client.pem      it and its key, made anew when it ends soon
    service.key         signs service-account tokens
    serving.crt|key     what the API server shows, made anew when its names change or it ends soon

`cryptography` takes 100 ms and 8 MB to import, so each function imports what it needs of it when it is called; `expiry`, which
agents ask, does without.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from minik8s.base.clock import Clock

DAY = 86_400.0
CA_LIFETIME = 3650 * DAY
LEAF_LIFETIME = 365 * DAY
RENEW_BEFORE = 90 * DAY
BACKDATE = 300.0
"""Seconds by which a certificate begins before its making, for clocks that lag behind (as kube-controller-manager's signer)."""

SERVER_AUTH, CLIENT_AUTH = "server auth", "client auth"


@dataclass(frozen=True)
class KeyPair:
    """A certificate (or a chain) with its private key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class CertificateRequest:
    """What a CSR asks for; its signature is right. `usages` are not in it: the API's object carries them."""

    user: str
    groups: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    public_key: Any


class Authority:
    """A certificate authority: signs for names, for users, and what a certificate request asks."""

    def __init__(self, pair: KeyPair, clock: Clock) -> None:
        self.pair = pair
        self._clock = clock

    @classmethod
    def create(cls, name: str, clock: Clock) -> Authority:
        """A new authority, valid for ten years."""
        from cryptography import x509

        key = _generate()
        subject = x509.Name([_attribute("COMMON_NAME", f"{name}@{int(clock.now())}")])
        ca = _builder(subject, subject, key.public_key(), clock.now(), CA_LIFETIME)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        ca = ca.add_extension(_key_usage("digital_signature", "key_encipherment", "key_cert_sign"), critical=True)
        ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(KeyPair(_pem(ca.sign(key, _sha256())), _key_pem(key)), clock)

    def server(self, names: Iterable[str], lifetime: float = LEAF_LIFETIME, common_name: str = "kube-apiserver") -> KeyPair:
        """A serving certificate for DNS names and IP addresses (both as text)."""
        key = _generate()
        certificate = self._sign(common_name, (), key.public_key(), (SERVER_AUTH,), lifetime, _alternative_names(names))
        return KeyPair(certificate, _key_pem(key))

    def client(self, user: str, groups: Sequence[str] = (), lifetime: float = LEAF_LIFETIME) -> KeyPair:
        """A client certificate that authenticates as `user` in `groups`."""
        key = _generate()
        return KeyPair(self._sign(user, groups, key.public_key(), (CLIENT_AUTH,), lifetime, []), _key_pem(key))

    def sign(self, request: CertificateRequest, usages: Sequence[str], lifetime: float = LEAF_LIFETIME) -> bytes:
        """The certificate (PEM) for a checked request. `usages` as in the API: "client auth", "digital signature", ..."""
        names = _alternative_names(request.dns_names + request.ip_addresses)
        names += _other_names(request.emails, request.uris)
        return self._sign(request.user, request.groups, request.public_key, usages, lifetime, names)

    def _sign(
        self,
        user: str,
        groups: Sequence[str],
        public_key: Any,
        usages: Sequence[str],
        lifetime: float,
        names: Sequence[x509.GeneralName],
    ) -> bytes:
        from cryptography import x509

        subject = x509.Name([*(_attribute("ORGANIZATION_NAME", group) for group in groups), _attribute("COMMON_NAME", user)])
        now = int(self._clock.now())
        left = self._certificate.not_valid_after_utc.timestamp() - now
        leaf = _builder(subject, self._certificate.subject, public_key, now, min(lifetime, left))
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        bits = [_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES]
        leaf = leaf.add_extension(_key_usage(*(bits or ("digital_signature", "key_encipherment"))), critical=True)
        extended = [x509.ObjectIdentifier(_EXTENDED_USAGES[usage]) for usage in usages if usage in _EXTENDED_USAGES]
        if extended:
            leaf = leaf.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        leaf = leaf.add_extension(issuer, critical=False)
        if names:
            leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _pem(leaf.sign(self._key, _sha256()))

    @cached_property
    def _certificate(self) -> x509.Certificate:
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.pair.certificate)

    @cached_property
    def _key(self) -> EllipticCurvePrivateKey:
        return load_key(self.pair.key)


@dataclass(frozen=True)
class ClusterPKI:
    """The head office's keys, in a directory of their own (mode 0700)."""

    directory: Path
    server_ca: Authority
    client_ca: Authority
    front_proxy_ca: Authority
    service_account_key: bytes
    clock: Clock

    @classmethod
    def load_or_create(cls, directory: Path, clock: Clock) -> ClusterPKI:
        """What the directory holds; what it lacks is made. OSError where it can't be read or written."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

        def authority(name: str) -> Authority:
            certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
            if certificate.exists() and key.exists():
                return Authority(KeyPair(certificate.read_bytes(), key.read_bytes()), clock)
            made = Authority.create(f"minik8s-{name}", clock)
            write_pair(made.pair, certificate, key)
            return made

        service = directory / "service.key"
        if not service.exists():
            write_private(service, new_key())
        server, client, front_proxy = (authority(name) for name in ("server-ca", "client-ca", "front-proxy-ca"))
        return cls(directory, server, client, front_proxy, service.read_bytes(), clock)

    @property
    def client_ca_file(self) -> Path:
        return self.directory / "client-ca.crt"

    def serving(self, names: Iterable[str]) -> tuple[Path, Path]:
        """Files of the certificate and key that the API server shows for exactly these DNS names and IP addresses."""
        certificate, key = self.directory / "serving.crt", self.directory / "serving.key"
        wanted = frozenset(names)
        if not (certificate.exists() and key.exists() and self._still_good(certificate.read_bytes(), wanted)):
            write_pair(self.server_ca.server(sorted(wanted)), certificate, key)
        return certificate, key

    def front_proxy(self, name: str) -> Path:
        """A file of the certificate, for the user `name`, and key that the API server shows to aggregated API servers."""
        file = self.directory / "front-proxy-client.pem"
        if not (file.exists() and self._lasts(file.read_bytes()) and issued_by(file.read_bytes(), self.front_proxy_ca.pair)):
            pair = self.front_proxy_ca.client(name)
            write_private(file, pair.certificate + pair.key)
        return file

    def server_context(self, names: Iterable[str]) -> ssl.SSLContext:
        """TLS of the API server for these names."""
        return server_context(*self.serving(names), self.client_ca_file)

    def renewal(self) -> float:
        """Seconds until the certificate that was last served should be renewed (by `serving`)."""
        return max(0.0, expiry((self.directory / "serving.crt").read_bytes()) - RENEW_BEFORE - self.clock.now())

    def _still_good(self, certificate: bytes, wanted: frozenset[str]) -> bool:
        return (
            self._lasts(certificate)
            and subject_names(certificate) == _normal(wanted)
            and issued_by(certificate, self.server_ca.pair)
        )

    def _lasts(self, certificate: bytes) -> bool:
        return expiry(certificate) - self.clock.now() > RENEW_BEFORE


# --- keys and certificate requests ----------------------------------------------------------------------------------------


def new_key() -> bytes:
    """A new ECDSA P-256 private key, PEM (PKCS #8)."""
    return _key_pem(_generate())


def load_key(pem: bytes) -> EllipticCurvePrivateKey:
    """The key of a PEM; ValueError where it is none or of another type than ours."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve private key")  # noqa: TRY004 (the content is wrong, not the argument)
    return key


def certificate_request(key: bytes, user: str, groups: Sequence[str] = (), names: Sequence[str] = ()) -> bytes:
    """A CSR (PEM) with CN `user`, O `groups` and the DNS names and addresses `names`."""
    from cryptography import x509

    subject = x509.Name([*(_attribute("ORGANIZATION_NAME", group) for group in groups), _attribute("COMMON_NAME", user)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        request = request.add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
    return _pem(request.sign(load_key(key), _sha256()))


def parse_request(pem: bytes) -> CertificateRequest:
    """What a CSR asks for. ValueError where it is no PEM of a CERTIFICATE REQUEST, its signature is wrong, or it asks for what
    nobody here understands.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _parsed_request(pem)
    except (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"unusable certificate request: {error}") from None


def _parsed_request(pem: bytes) -> CertificateRequest:
    from cryptography import x509

    request = x509.load_pem_x509_csr(pem)
    if not request.is_signature_valid:
        raise ValueError("the signature of the certificate request is wrong")
    names: Any = ()
    for extension in request.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = extension.value
    return CertificateRequest(
        user=next(iter(_values(request.subject, "COMMON_NAME")), ""),
        groups=tuple(_values(request.subject, "ORGANIZATION_NAME")),
        dns_names=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        ip_addresses=tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        emails=tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        uris=tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
        public_key=request.public_key(),
    )


def key_hash(request: CertificateRequest) -> str:
    """The SHA-256 of the request's public key (SubjectPublicKeyInfo), in hex."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(request.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def expiry(certificate: bytes) -> float:
    """When the (first) certificate of a PEM ends, in seconds since the epoch. Source: RFC 5280 4.1 and 4.1.2.5."""
    der = base64.b64decode(certificate.partition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END")[0])
    [(_, signed), *_] = _der_parts(der)
    [(_, fields), *_] = _der_parts(signed)
    times = (_UTC_TIME, _GENERALIZED_TIME)
    # the validity is the one sequence of times; a serial number is none, whatever byte it begins with
    *_, (tag, text) = _der_parts(next(body for tag, body in _der_parts(fields) if tag == _SEQUENCE and body[:1] in times))
    century = b"" if tag == _GENERALIZED_TIME[0] else b"20" if text < b"5" else b"19"
    digits = (century + text).decode()
    return datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}").timestamp()


def common_name(certificate: bytes) -> str:
    """Whose certificate (PEM) it is; empty where it doesn't say."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def subject_names(certificate: bytes) -> frozenset[str]:
    """The DNS names and IP addresses that a certificate (PEM) stands for."""
    from cryptography import x509

    for extension in x509.load_pem_x509_certificate(certificate).extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return frozenset(str(name.value) for name in extension.value)
    return frozenset()


def issued_by(certificate: bytes, authority: KeyPair) -> bool:
    """Whether this authority signed the certificate."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        issuer = x509.load_pem_x509_certificate(authority.certificate)
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(issuer)
    except (ValueError, InvalidSignature):
        return False
    return True


# --- TLS contexts ---------------------------------------------------------------------------------------------------------


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS for a server. With `client_ca`, clients are asked for a certificate; none is fine, one of another authority is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: bytes, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS for a client that trusts the authorities in `ca` (PEM) alone (the system's where it is empty), showing a certificate where
    one is given.
    """
    context = ssl.create_default_context(cadata=ca.decode() or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


# --- files ----------------------------------------------------------------------------------------------------------------


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a file whole or not at all, durably, readable by its owner only (unless `mode` says more)."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_pair(pair: KeyPair, certificate: Path, key: Path) -> None:
    """Writes both; a crash between the two leaves no certificate, and none that does not fit its key."""
    certificate.unlink(missing_ok=True)
    _sync_directory(certificate.parent)
    write_private(key, pair.key)
    write_private(certificate, pair.certificate, 0o644)


def _sync_directory(path: Path) -> None:
    """Makes what was created, renamed and removed in it durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- details --------------------------------------------------------------------------------------------------------------

_SEQUENCE = 0x30
_UTC_TIME, _GENERALIZED_TIME = b"\x17", b"\x18"


def _der_parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a DER sequence's content: tags and what is in them."""
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            more = length & 0x7F
            length, at = int.from_bytes(content[at : at + more], "big"), at + more
        yield tag, content[at : at + length]
        at += length


# The API's usages (certificates.k8s.io KeyUsage) as X.509 knows them.
_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
}
_EXTENDED_USAGES = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
}
_KEY_USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _generate() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(made: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.public_bytes(Encoding.PEM)


def _attribute(kind: str, value: str) -> x509.NameAttribute[str]:
    from cryptography import x509

    return x509.NameAttribute(getattr(x509.NameOID, kind), value)


def _values(name: x509.Name, kind: str) -> list[str]:
    from cryptography import x509

    return [str(attribute.value) for attribute in name.get_attributes_for_oid(getattr(x509.NameOID, kind))]


def _builder(subject: x509.Name, issuer: x509.Name, public_key: Any, now: float, lifetime: float) -> x509.CertificateBuilder:
    from cryptography import x509

    start = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(seconds=BACKDATE))
        .not_valid_after(start + timedelta(seconds=int(lifetime)))
    )


def _key_usage(*bits: str) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(**dict.fromkeys(_KEY_USAGE_BITS, False) | dict.fromkeys(bits, True))


def _normal(names: Iterable[str]) -> frozenset[str]:
    return frozenset(str(_address(name) or name) for name in names)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    return [x509.IPAddress(address) if (address := _address(name)) else x509.DNSName(name) for name in names]


def _other_names(emails: Iterable[str], uris: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    return [*map(x509.RFC822Name, emails), *map(x509.UniformResourceIdentifier, uris)]

"""How to reach an API server and as whom: `Access`, read from a kubeconfig file and written to one.

Limits: no exec plugins, auth providers or basic auth; a file that needs one is refused, in words.
Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BadKubeconfig(ValueError):
    """The file is no kubeconfig, or lacks what is asked of it; says which file and what."""


@dataclass(frozen=True, slots=True)
class Access:
    """One way to one server. `ca`, `certificate` and `key` are PEM; without `ca` the system's authorities count."""

    server: str  # a URL
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    unix_socket: str = ""  # a path: `server` then only names the host
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = ""


def load(path: Path, context: str = "") -> Access:
    """What `context` (empty: the file's current one) of a kubeconfig says. BadKubeconfig; OSError where it can't be read."""
    import yaml  # late, and only to read: servers and agents write at most

    try:
        config = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise BadKubeconfig(f"{path}: not YAML: {error}") from None
    if not isinstance(config, dict):
        raise BadKubeconfig(f"{path}: not a kubeconfig")
    wanted = context or config.get("current-context") or ""
    chosen = _entry(path, config, "contexts", "context", wanted)
    cluster = _entry(path, config, "clusters", "cluster", chosen.get("cluster", ""))
    user = _entry(path, config, "users", "user", chosen["user"]) if chosen.get("user") else {}
    for unknown in ("exec", "auth-provider", "username"):
        if unknown in user:
            raise BadKubeconfig(f"{path}: user {chosen['user']!r} needs {unknown!r}, which is not supported")
    if "server" not in cluster:
        raise BadKubeconfig(f"{path}: cluster {chosen['cluster']!r} has no server")
    token = user.get("token") or (_relative(path, user["tokenFile"]).read_text().strip() if "tokenFile" in user else "")
    return Access(
        server=cluster["server"].rstrip("/"),
        ca=_content(path, cluster, "certificate-authority"),
        certificate=_content(path, user, "client-certificate"),
        key=_content(path, user, "client-key"),
        token=token,
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name", ""),
        namespace=chosen.get("namespace", ""),
    )


def write(path: Path, access: Access, *, name: str = "minik8s", user: str = "admin") -> None:
    """Writes a kubeconfig (mode 0600) with this one context, whole or not at all."""
    from minik8s.base.pki import write_private  # late: short commands only read

    cluster: dict[str, Any] = {"server": access.server} | _encoded("certificate-authority", access.ca)
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if access.tls_server_name:
        cluster["tls-server-name"] = access.tls_server_name
    credentials = _encoded("client-certificate", access.certificate) | _encoded("client-key", access.key)
    if access.token:
        credentials["token"] = access.token
    context = {"cluster": name, "user": user} | ({"namespace": access.namespace} if access.namespace else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
        "preferences": {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, "".join(f"{line}\n" for line in _yaml(config)).encode())


def ssl_context(access: Access) -> ssl.SSLContext:
    """TLS 1.2 or newer that trusts `access.ca` alone (the system's where it is empty) and shows the certificate, if any."""
    from minik8s.base.pki import client_context  # late, as above

    if access.insecure:  # without the system's authorities, which `create_default_context` would read
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context = client_context(access.ca or b"")
    if access.certificate:
        # The ssl module reads certificates from files only; the directory is ours alone (0700) and gone at once.
        with tempfile.TemporaryDirectory() as directory:
            pair = Path(directory) / "pair.pem"
            pair.write_bytes(access.certificate + b"\n" + access.key)
            context.load_cert_chain(pair)
    return context


def _entry(path: Path, config: Mapping[str, Any], section: str, noun: str, name: str) -> dict[str, Any]:
    for entry in config.get(section) or ():
        if entry.get("name") == name:
            return dict(entry.get(noun) or {})
    raise BadKubeconfig(f"{path}: no {noun} named {name!r}")


def _content(path: Path, entry: Mapping[str, Any], field: str) -> bytes:
    """A PEM, given in the file as base64 or as the name of another file."""
    if f"{field}-data" in entry:
        try:
            return base64.b64decode(entry[f"{field}-data"], validate=True)
        except binascii.Error:
            raise BadKubeconfig(f"{path}: {field}-data is not base64") from None
    return _relative(path, entry[field]).read_bytes() if field in entry else b""


def _relative(path: Path, named: str) -> Path:
    """Files are named relative to the kubeconfig."""
    return path.parent / named


def _yaml(value: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a mapping: lists hold mappings, all else is as JSON writes it."""
    for key, item in value.items():
        if isinstance(item, list):
            yield f"{key}:"
            for each in item:
                for number, line in enumerate(_yaml(each)):
                    yield f"{'  ' if number else '- '}{line}"
        elif isinstance(item, dict) and item:
            yield f"{key}:"
            yield from (f"  {line}" for line in _yaml(item))
        else:
            yield f"{key}: {json.dumps(item)}"


def _encoded(field: str, content: bytes) -> dict[str, str]:
    return {f"{field}-data": base64.b64encode(content).decode()} if content else {}

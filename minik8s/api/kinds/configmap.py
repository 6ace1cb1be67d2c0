"""ConfigMaps and Secrets: data under keys, up to 1 MiB, immutable where they say so."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from minik8s.api import names
from minik8s.api.decode import json_error
from minik8s.api.errors import FieldError, invalid, required, too_long
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable, immutable_when_marked
from minik8s.api.printing import age
from minik8s.api.scalars import json_type

MAX_SIZE = 1024 * 1024

# --- ConfigMap -------------------------------------------------------------------------------------------------------


def validate_configmap(configmap: Frozen) -> list[FieldError]:
    data, binary = configmap.get("data") or {}, configmap.get("binaryData") or {}
    errors: list[FieldError] = []
    for key in data:
        errors += _key(f"data[{key}]", key)
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in binary:
        errors += _key(f"binaryData[{key}]", key)
    if sum(len(text.encode()) for text in data.values()) + sum(map(_decoded_size, binary.values())) > MAX_SIZE:
        errors.append(too_long("", MAX_SIZE))
    return errors


def validate_configmap_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable_when_marked(new, old, "data", "binaryData")


def configmap_row(configmap: Frozen, now: float) -> list[object]:
    entries = len(configmap.get("data") or ()) + len(configmap.get("binaryData") or ())
    return [configmap["metadata"]["name"], entries, age(configmap, now)]


# --- Secret ----------------------------------------------------------------------------------------------------------

TLS = "kubernetes.io/tls"
SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 - a type's name
SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"
MUST_HAVE = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    TLS: ("tls.crt", "tls.key"),
}
MUST_BE_JSON = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}


def default_secret(secret: Object) -> None:
    texts = secret.pop("stringData", None)
    if texts:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}
    secret["type"] = secret.get("type") or "Opaque"


def validate_secret(secret: Frozen) -> list[FieldError]:
    data, kind = secret.get("data") or {}, secret.get("type", "")
    errors = [error for key in data for error in _key(f"data[{key}]", key)]
    if sum(map(_decoded_size, data.values())) > MAX_SIZE:
        errors.append(too_long("data", MAX_SIZE))
    errors += [required(f"data[{key}]") for key in MUST_HAVE.get(kind, ()) if key not in data]
    json_key = MUST_BE_JSON.get(kind)
    if json_key in data:
        errors += _json_object(f"data[{json_key}]", base64.b64decode(data[json_key]))
    if kind == SERVICE_ACCOUNT_TOKEN and not (secret["metadata"].get("annotations") or {}).get(SERVICE_ACCOUNT_NAME):
        errors.append(required(f"metadata.annotations[{SERVICE_ACCOUNT_NAME}]"))
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        errors += [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        errors.append(required("data[ssh-privatekey]"))
    return errors


def validate_secret_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(new.get("type"), old.get("type"), "type") + immutable_when_marked(new, old, "data")


def secret_warnings(secret: Frozen, _old: Frozen | None) -> list[str]:
    if secret.get("type") != TLS:
        return []
    data = secret.get("data") or {}
    problem = _key_pair_problem(base64.b64decode(data.get("tls.crt", "")), base64.b64decode(data.get("tls.key", "")))
    return [problem] if problem else []


def secret_row(secret: Frozen, now: float) -> list[object]:
    return [secret["metadata"]["name"], secret.get("type", ""), len(secret.get("data") or ()), age(secret, now)]


# --- shared ----------------------------------------------------------------------------------------------------------


def _key(path: str, key: str) -> list[FieldError]:
    return list(checks.name(key, path, names.config_key))


def _decoded_size(text: str) -> int:
    """How many bytes a base64 text stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)


def _json_object(path: str, content: bytes) -> list[FieldError]:
    try:
        value: Any = orjson.loads(content)
    except ValueError:
        return [invalid(path, "<secret contents redacted>", json_error(content))]
    if isinstance(value, dict | None):
        return []
    detail = f"json: cannot unmarshal {json_type(value)} into Go value of type map[string]interface {{}}"
    return [invalid(path, "<secret contents redacted>", detail)]


def _key_pair_problem(certificate: bytes, key: bytes) -> str:
    """What is wrong with a TLS certificate and its key, empty where they fit."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return "tls: failed to find any PEM data in certificate input"
    if b"-----BEGIN " not in key:
        return "tls: failed to find any PEM data in key input"
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        known = load_pem_x509_certificate(certificate).public_key().public_bytes(*form)
        private = load_pem_private_key(key, None).public_key().public_bytes(*form)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return f"tls: failed to parse key pair: {error}"
    return "" if known == private else "tls: private key does not match public key"


CONFIGMAP = Kind(
    validate=validate_configmap,
    validate_update=validate_configmap_update,
    columns=(NAME, Column("Data", description="Data contains the configuration data."), AGE),
    row=configmap_row,
)
SECRET = Kind(
    default=default_secret,
    validate=validate_secret,
    validate_update=validate_secret_update,
    warnings=secret_warnings,
    columns=(NAME, Column("Type", description="What the data is for."), Column("Data", description="How many entries."), AGE),
    row=secret_row,
    fields={"type": lambda secret: secret.get("type", "")},
)

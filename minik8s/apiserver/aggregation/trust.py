"""What aggregated API servers need to know to believe this one: the ConfigMap kube-system/extension-apiserver-authentication. Pure.

They take a client's certificate of `client-ca-file` for its user, and one of `requestheader-client-ca-file` (this server's own) as leave
to say in headers who asks. Source: the Kubernetes documentation, "Configure the Aggregation Layer".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from minik8s.api.kind import Frozen, Object

NAME = "extension-apiserver-authentication"
CLIENT_NAME = "front-proxy-client"
"""The name in the certificate that this server shows."""
USER, UID, GROUP, EXTRA = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group", "X-Remote-Extra-"

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_BUNDLES = ("client-ca-file", "requestheader-client-ca-file")


def config_map(client_ca: str, front_proxy_ca: str) -> Object:
    """The ConfigMap for these authorities (PEM)."""
    data = {
        "client-ca-file": client_ca,
        "requestheader-allowed-names": f'["{CLIENT_NAME}"]',
        "requestheader-client-ca-file": front_proxy_ca,
        "requestheader-extra-headers-prefix": f'["{EXTRA}"]',
        "requestheader-group-headers": f'["{GROUP}"]',
        "requestheader-uid-headers": f'["{UID}"]',
        "requestheader-username-headers": f'["{USER}"]',
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": NAME}, "data": data}


def reconcile(existing: Frozen | None, wanted: Object) -> Object | None:
    """What to write so that the ConfigMap tells of this server too, beside others that share its store; None where it does."""
    if existing is None:
        return wanted
    old: Mapping[str, str] = existing.get("data") or {}
    data = {**old, **wanted["data"]} | {key: _joined(old.get(key, ""), wanted["data"][key]) for key in _BUNDLES}
    return None if data == old else {**existing, "data": data}


def _joined(old: str, new: str) -> str:
    """A bundle with the certificates of both."""
    known = [text.strip() for text in _CERTIFICATE.findall(old)]
    return "".join(f"{text}\n" for text in dict.fromkeys([*known, *(text.strip() for text in _CERTIFICATE.findall(new))]))

"""Which key is a node's: the one with which it joined. Who holds a join token must not get the certificate of a node that is there already,
so its key's hash is kept, as k3s keeps a node's password (Secret `NAME.node-password.k3s`).

A node that lost its key joins anew once its Node object is deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import AlreadyExists, Conflict, NotFound
from minik8s.api.resources import SECRETS
from minik8s.base.pki import CertificateRequest, key_hash
from minik8s.client.client import Client

NAMESPACE, SUFFIX = "kube-system", ".node-key.minik8s"
PREFIX = "system:node:"
REJECTED = "NodeKeyRejected"


async def claim(client: Client, request: CertificateRequest, is_there: Callable[[str], bool]) -> str:
    """Takes the key of a request for that of its node; why not, where another is and the node `is_there`."""
    name, wanted = request.user.removeprefix(PREFIX), key_hash(request)
    kept = await _kept(client, name)
    if kept is not None and _hash(kept) == wanted:
        return ""
    if kept is not None and is_there(name):
        return f"node {name} joined with another key: it joins anew with this one after `kubectl delete node {name}`"
    metadata = {"name": name + SUFFIX, "namespace": NAMESPACE}
    if kept is not None:
        metadata["resourceVersion"] = kept["metadata"]["resourceVersion"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"hash": _base64(wanted)}}
    try:
        await (client.create(SECRETS, secret) if kept is None else client.update(SECRETS, secret))
    except (AlreadyExists, Conflict):  # another request was faster
        return await claim(client, request, is_there)
    return ""


async def _kept(client: Client, name: str) -> Mapping[str, Any] | None:
    try:
        return await client.get(SECRETS, name + SUFFIX, NAMESPACE)
    except NotFound:
        return None


def _hash(secret: Mapping[str, Any]) -> str:
    return base64.b64decode((secret.get("data") or {}).get("hash", "")).decode(errors="replace")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

"""Two controllers of bootstrap tokens: expired ones are deleted, and `cluster-info` in kube-public, which anybody may read, is signed with
each token that is for signing: who holds a token can check the cluster's address and authority.

Source: "Authenticating with Bootstrap Tokens" of the Kubernetes documentation (ConfigMap signing: RFC 7515, detached, HS256).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from minik8s.api.bootstraptoken import NAMESPACE, PREFIX, TYPE, expiry, texts
from minik8s.api.errors import Conflict, NotFound
from minik8s.api.resources import CONFIGMAPS, SECRETS
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue

Object = Mapping[str, Any]
CLUSTER_INFO: Key = ("kube-public", "cluster-info")
OF_BOOTSTRAP_TOKENS = f"type={TYPE}"
KUBECONFIG, SIGNATURE = "kubeconfig", "jws-kubeconfig-"


def signing_token(secret: Object, now: float) -> tuple[str, str] | None:
    """(id, secret) of a token that signs, None where it doesn't (any more)."""
    said = texts(secret)
    name, token_id, token = secret["metadata"]["name"], said.get("token-id", ""), said.get("token-secret", "")
    if secret.get("type") != TYPE or name != PREFIX + token_id or not token_id or not token:
        return None
    counts = said.get("usage-bootstrap-signing") == "true" and expiry(said) > now
    return (token_id, token) if counts else None


def signature(content: str, token_id: str, token: str) -> str:
    """A JWS of `content` without its payload: `HEADER..SIGNATURE`."""
    header = _base64(orjson.dumps({"alg": "HS256", "kid": token_id}))
    signed = hmac.new(token.encode(), f"{header}.{_base64(content.encode())}".encode(), hashlib.sha256)
    return f"{header}..{_base64(signed.digest())}"


def signed(info: Object, tokens: Mapping[str, str]) -> Object:
    """The ConfigMap with the signatures of exactly these tokens (secrets by their ids)."""
    data = {key: value for key, value in (info.get("data") or {}).items() if not key.startswith(SIGNATURE)}
    if content := data.get(KUBECONFIG):
        data |= {f"{SIGNATURE}{token_id}": signature(content, token_id, token) for token_id, token in sorted(tokens.items())}
    return {**info, "data": data}


def start_cleaner(context: Context) -> list[Reconciler[Key]]:
    secrets = context.informers.of(SECRETS, NAMESPACE, fields=OF_BOOTSTRAP_TOKENS)

    async def reconcile(key: Key) -> float | None:
        secret = secrets.get(*key)
        if secret is None:
            return None
        wait = expiry(texts(secret)) - context.clock.now()
        if wait > 0:
            return wait if wait != float("inf") else None
        try:
            await context.client.delete(SECRETS, key[1], NAMESPACE, uid=secret["metadata"]["uid"])
        except (NotFound, Conflict):
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("token-cleaner", reconcile, context.clock)
    secrets.on_change(enqueue(reconciler))
    return [reconciler]


def start_signer(context: Context) -> list[Reconciler[Key]]:
    secrets = context.informers.of(SECRETS, NAMESPACE, fields=OF_BOOTSTRAP_TOKENS)
    infos = context.informers.of(CONFIGMAPS, CLUSTER_INFO[0], fields=f"metadata.name={CLUSTER_INFO[1]}")

    async def reconcile(key: Key) -> float | None:
        info = infos.get(*key)
        if info is None:
            return None
        now = context.clock.now()
        tokens = dict(found for secret in secrets.list() if (found := signing_token(secret, now)))
        if (wanted := signed(info, tokens)) != info:
            await context.client.update(CONFIGMAPS, wanted)
        ends = [expiry(texts(secret)) - now for secret in secrets.list() if signing_token(secret, now)]
        soonest = min(ends, default=float("inf"))
        return soonest if soonest != float("inf") else None

    reconciler: Reconciler[Key] = Reconciler("bootstrap-signer", reconcile, context.clock)

    def changed(old: Object | None, new: Object | None) -> None:
        reconciler.add(CLUSTER_INFO)

    infos.on_change(changed)
    secrets.on_change(changed)
    return [reconciler]


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

"""The older tokens of ServiceAccounts: a Secret of the type `kubernetes.io/service-account-token` that names an account gets a token, the
cluster's authority and its namespace; it goes when its account does.

Source: "Managing Service Accounts" of the Kubernetes documentation, token controller.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import Conflict, NotFound
from minik8s.api.resources import SECRETS, SERVICEACCOUNTS
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]
TYPE = "kubernetes.io/service-account-token"
ACCOUNT, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


def belongs(secret: Object, account: Object | None) -> bool:
    """Whether the account that a Secret names is there, and still the one that it was made for."""
    if account is None or "deletionTimestamp" in account["metadata"]:
        return False
    uid = (secret["metadata"].get("annotations") or {}).get(UID, "")
    return uid in ("", account["metadata"]["uid"])


def filled(secret: Object, account: Object, root_ca: str, token: str) -> Object:
    """The Secret as it shall be; a token that it holds already stays."""
    data = dict(secret.get("data") or {})
    data |= {"ca.crt": _base64(root_ca), "namespace": _base64(secret["metadata"]["namespace"])}
    if not data.get("token"):
        data["token"] = _base64(token)
    annotations = {**(secret["metadata"].get("annotations") or {}), UID: account["metadata"]["uid"]}
    return {**secret, "metadata": {**secret["metadata"], "annotations": annotations}, "data": data}


def start(context: Context) -> list[Reconciler[Key]]:
    make = context.settings.account_token
    if make is None:
        return []
    secrets, accounts = context.informers.of(SECRETS, fields=f"type={TYPE}"), context.informer(SERVICEACCOUNTS)

    async def reconcile(key: Key) -> None:
        secret = secrets.get(*key)
        if secret is None or "deletionTimestamp" in secret["metadata"]:
            return
        name = (secret["metadata"].get("annotations") or {}).get(ACCOUNT, "")
        account = accounts.get(key[0], name)
        try:
            if account is None or not belongs(secret, account):
                account = await context.client.get(SERVICEACCOUNTS, name, key[0])  # the cache may be behind
            if belongs(secret, account):
                wanted = filled(secret, account, context.settings.root_ca, make(account, key[1]))
                if wanted != secret:
                    await context.client.update(SECRETS, wanted)
                return
        except NotFound:
            pass
        try:
            await context.client.delete(SECRETS, key[1], key[0], uid=secret["metadata"]["uid"])
        except (NotFound, Conflict):
            return

    reconciler: Reconciler[Key] = Reconciler("service-account-tokens", reconcile, context.clock, workers=2)

    def account_changed(old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            for secret in secrets.list(old["metadata"]["namespace"]):
                if secret["metadata"]["annotations"].get(ACCOUNT) == old["metadata"]["name"]:
                    reconciler.add(key_of(secret))

    secrets.on_change(enqueue(reconciler))
    accounts.on_change(account_changed)
    return [reconciler]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

"""The ConfigMap `cluster-info` in kube-public: where the cluster is and who its authority is, for anybody who wants to join it.

Pure: what must exist, and how it is kept true. Its signatures are the bootstrap signer's (`controllers/bootstrap.py`), which are left
alone. Source: "Authenticating with Bootstrap Tokens" of the Kubernetes documentation.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from minik8s.api.kind import Object
from minik8s.api.user import ANONYMOUS

NAMESPACE, NAME = "kube-public", "cluster-info"
_RBAC = "rbac.authorization.k8s.io"
_ROLE = "minik8s:cluster-info"


def objects(server: str, authority: bytes) -> list[Object]:
    """The ConfigMap for a server's URL and the PEM of its authority, and what lets anybody read it."""
    cluster = {"certificate-authority-data": base64.b64encode(authority).decode(), "server": server}
    config: Object = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
        "contexts": None,
        "current-context": "",
        "preferences": {},
        "users": None,
    }
    metadata = {"name": _ROLE, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {"kubeconfig": orjson.dumps(config, option=orjson.OPT_INDENT_2).decode() + "\n"},
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get"]}],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": _ROLE},
            "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": ANONYMOUS.name}],
        },
    ]


def reconcile(existing: Mapping[str, Any] | None, wanted: Object) -> Object | None:
    if existing is None:
        return wanted
    data = existing.get("data") or {}
    if wanted["kind"] != "ConfigMap" or data.get("kubeconfig") == wanted["data"]["kubeconfig"]:
        return None
    return {**existing, "data": {**data, **wanted["data"]}}

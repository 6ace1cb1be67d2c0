"""Older ServiceAccount tokens and bootstrap tokens. Sources: kubernetes.io "Managing Service Accounts", "Authenticating with Bootstrap
Tokens".
"""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from minik8s.base.clock import rfc3339
from minik8s.controllers.bootstrap import signature
from minik8s.controllers.tokens import ACCOUNT, TYPE, UID
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(
    nodes=0,
    scheduler=False,
    controllers=["serviceaccount-token-controller", "bootstrap-signer", "token-cleaner"],
)


def secret(name: str, kind: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    texts = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "data": texts}


def of_account(name: str, account: str = "robot") -> dict[str, Any]:
    made = secret(name, TYPE)
    made["metadata"]["annotations"] = {ACCOUNT: account}
    return made


ROBOT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}


async def test_a_token_comes_and_goes_with_its_account(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([ROBOT, of_account("t"), of_account("lost", "nobody")])
    await clock.settle()
    account, filled = await cluster.get("sa/robot"), await cluster.get("secret/t")
    assert account is not None
    assert filled is not None
    assert filled["metadata"]["annotations"][UID] == account["metadata"]["uid"]
    assert {key: base64.b64decode(value) for key, value in filled["data"].items() if key != "token"} == {
        "ca.crt": b"no certificate: nobody connects to a cluster in a test's process\n",
        "namespace": b"default",
    }
    token = base64.b64decode(filled["data"]["token"]).decode()
    review = cluster.plane.authenticator.review(token, cluster.plane.authenticator.accounts.audiences)
    assert review.user.name == "system:serviceaccount:default:robot"
    assert await cluster.get("secret/lost") is None
    await cluster.delete("sa/robot")
    await clock.settle()
    assert await cluster.get("secret/t") is None


async def test_bootstrap_tokens_sign_and_end(cluster: Cluster, clock: VirtualClock) -> None:
    info = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info", "namespace": "kube-public"}}
    parts = {"token_id": "abcdef", "token_secret": "s" * 16, "usage_bootstrap_signing": "true"}
    token = secret(
        "bootstrap-token-abcdef",
        "bootstrap.kubernetes.io/token",
        "kube-system",
        **parts,
        expiration=rfc3339(clock.now() + 60),
    )
    await cluster.apply([{**info, "data": {"kubeconfig": "x", "jws-kubeconfig-zzzzzz": "old"}}, token])
    await clock.settle()
    found = await cluster.get("cm/cluster-info", "kube-public")
    assert found is not None
    assert found["data"] == {"kubeconfig": "x", "jws-kubeconfig-abcdef": signature("x", "abcdef", "s" * 16)}
    await clock.advance(61)
    await clock.settle()
    assert await cluster.get("secret/bootstrap-token-abcdef", "kube-system") is None
    found = await cluster.get("cm/cluster-info", "kube-public")
    assert found is not None
    assert found["data"] == {"kubeconfig": "x"}


def test_a_signature_is_a_detached_jws() -> None:
    header, payload, signed = signature("content", "abcdef", "secret").split(".")
    assert (json.loads(base64.urlsafe_b64decode(header + "==")), payload) == ({"alg": "HS256", "kid": "abcdef"}, "")
    whole = f"{header}.{base64.urlsafe_b64encode(b'content').rstrip(b'=').decode()}"
    expected = hmac.new(b"secret", whole.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signed + "=") == expected

"""Aggregated ClusterRoles. Source: kubernetes.io "Using RBAC Authorization"."""

from typing import Any

import pytest

from minik8s.api.resources import CLUSTERROLES
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

READ = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
WRITE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}


def role(name: str, *rules: Any, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": labels or {}}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": list(rules)} | more


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_a_role_of_roles(cluster: Cluster, clock: VirtualClock) -> None:
    """Its own rules are overwritten; it follows the roles that it selects, and through it those that select it."""
    part = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}}
    whole = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"sum": "yes"}}]}}
    await cluster.apply([role("sum", WRITE, labels={"sum": "yes"}, **part), role("total", **whole)])
    await cluster.apply(role("a", READ, labels={"part": "yes"}))
    await clock.settle()
    assert [(await cluster.get(f"clusterrole/{name}") or {})["rules"] for name in ("sum", "total")] == [[READ]] * 2
    await cluster.apply(role("b", WRITE, labels={"part": "yes"}))
    await clock.settle()
    assert (await cluster.get("clusterrole/total") or {})["rules"] == [READ, WRITE]
    await cluster.client.patch(CLUSTERROLES, "a", "", {"metadata": {"labels": {"part": None}}})
    await cluster.delete("clusterrole/b")
    await clock.settle()
    assert not (await cluster.get("clusterrole/total") or {}).get("rules")
    assert (await cluster.get("clusterrole/view") or {})["rules"]

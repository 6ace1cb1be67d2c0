"""What the options say about access, composed (`minik8s/security.py`)."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minik8s import config, security
from minik8s.api.resources import NAMESPACES
from minik8s.api.user import User
from minik8s.base.clock import RealClock
from minik8s.base.proxies import Proxies
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False, controllers=[])


def options(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(**{each.key: each.default for each in config.options_of(config.SERVER)} | given)


def test_nothing_asked_for_is_nothing() -> None:
    assert security.listed_tokens(options()) == {}
    assert security.issuers(options(), Proxies(), RealClock(), AsyncExitStack()) == []
    assert security.pod_security(options()) is None


async def test_the_audit_log_is_whole_when_the_stack_has_ended(cluster: Cluster, tmp_path: Path) -> None:
    policy, path = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, users: [system:x]}]\n")
    async with AsyncExitStack() as stack:
        await security.audit(options(audit_policy_file=str(policy), audit_log_path=str(path)), cluster.plane, stack)
        client = cluster.plane.client(User("system:x", ("system:masters",)))
        for _ in range(100):
            await client.list(NAMESPACES)
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 200
    cluster.plane.desk.audit = None


async def test_one_option_of_the_audit_log_alone_is_a_mistake(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ValueError, match="needs both"):
            await security.audit(options(audit_log_path="-"), cluster.plane, stack)


def test_two_ways_to_name_issuers_are_one_too_many() -> None:
    both = options(oidc_issuer_url="https://i", oidc_client_id="me", authentication_config="x")
    with pytest.raises(ValueError, match="can't be used together"):
        security.issuers(both, Proxies(), RealClock(), AsyncExitStack())

"""The objects of priority and fairness in a running cluster. Rules: the API Priority and Fairness chapter."""

import pytest

from minik8s.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0)


async def test_what_must_exist_comes_back_and_is_put_right(cluster: Cluster, clock: VirtualClock) -> None:
    await clock.settle()
    await cluster.client.delete(FLOWSCHEMAS, "exempt")
    shares = {"spec": {"limited": {"nominalConcurrencyShares": 1}}}
    await cluster.client.patch(PRIORITYLEVELCONFIGURATIONS, "node-high", "", shares)
    await clock.settle()
    assert (await cluster.client.get(FLOWSCHEMAS, "exempt"))["spec"]["matchingPrecedence"] == 1
    level = await cluster.client.get(PRIORITYLEVELCONFIGURATIONS, "node-high")
    assert level["spec"]["limited"]["nominalConcurrencyShares"] == 40


async def test_a_level_that_somebody_took_over_stays_theirs(cluster: Cluster, clock: VirtualClock) -> None:
    patch = {
        "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
        "spec": {"limited": {"nominalConcurrencyShares": 1}},
    }
    await cluster.client.patch(PRIORITYLEVELCONFIGURATIONS, "node-high", "", patch)
    await clock.settle()
    level = await cluster.client.get(PRIORITYLEVELCONFIGURATIONS, "node-high")
    assert level["spec"]["limited"]["nominalConcurrencyShares"] == 1


async def test_schemas_tell_whether_their_level_exists(cluster: Cluster, clock: VirtualClock) -> None:
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "jane"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    schema = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "own"},
        "spec": {"priorityLevelConfiguration": {"name": "own"}, "rules": [rule]},
    }
    limited = {"limitResponse": {"type": "Reject"}}
    level = {**schema, "kind": "PriorityLevelConfiguration", "spec": {"type": "Limited", "limited": limited}}
    seen = []
    for apply in ([schema], [level]):
        await cluster.apply(apply)
        await clock.settle()
        condition = (await cluster.client.get(FLOWSCHEMAS, "own"))["status"]["conditions"][0]
        seen.append((condition["type"], condition["status"], condition["reason"]))
    assert seen == [("Dangling", "True", "NotFound"), ("Dangling", "False", "Found")]

"""The objects of docs/extending.md do what the page says."""

import base64
import re
from pathlib import Path

import pytest

from minik8s.api.errors import ApiError
from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority
from minik8s.testing.cluster import Cluster

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
DEFINITION, VALIDATING, MUTATING, WEBHOOK, SERVER = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def test_custom_resources(cluster: Cluster) -> None:
    definition, backup = DEFINITION.split("---\n")
    await cluster.apply(definition)
    await cluster.apply(backup)
    kept = await cluster.get("backup/nightly")
    assert kept is not None
    assert kept["spec"] == {"source": "/data", "keep": 7}
    with pytest.raises(ApiError, match="source may not change"):
        await cluster.apply(backup.replace("/data", "/other"))


async def test_policies(cluster: Cluster) -> None:
    await cluster.apply(VALIDATING)
    await cluster.apply(MUTATING)
    deployment = """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec:
          replicas: 6
          selector: {matchLabels: {app: web}}
          template:
            metadata: {labels: {app: web}}
            spec: {containers: [{name: web, image: nginx}]}
    """
    with pytest.raises(ApiError, match="at most 5 replicas, not 6"):
        await cluster.apply(deployment)
    await cluster.apply(deployment.replace("replicas: 6", "replicas: 5"))
    await cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: plain}}")
    plain = await cluster.get("configmap/plain")
    assert plain is not None
    assert plain["metadata"]["labels"] == {"team": "unknown"}


@pytest.mark.parametrize("example", [WEBHOOK, SERVER])
async def test_the_rest_is_valid(cluster: Cluster, example: str) -> None:
    bundle = base64.b64encode(Authority.create("x", RealClock()).pair.certificate).decode()
    await cluster.apply(example.replace("BASE64", bundle))

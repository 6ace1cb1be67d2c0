"""Manifests of static pods. Source: kubernetes.io "Create static Pods"; names, annotations and messages are upstream's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.kubelet.manifests import BadManifest, Manifests, pod_of

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: c, image: img}]
  tolerations: [{key: a, operator: Exists}, {operator: Exists, effect: NoExecute}]
---
ignored: true
"""


def of(text: str, file: str = "/m/web.yaml", node: str = "node1") -> dict[str, Any]:
    return pod_of(text.encode(), file, node)


def test_a_pod_of_this_node() -> None:
    pod = of(WEB)
    meta = pod["metadata"]
    assert (meta["namespace"], meta["name"], meta["labels"]) == ("default", "web-node1", {"app": "web"})
    assert meta["annotations"] == {"kubernetes.io/config.hash": meta["uid"], "kubernetes.io/config.source": "file"}
    assert len(meta["uid"]) == 32
    assert pod["spec"]["nodeName"] == "node1"
    assert pod["spec"]["tolerations"] == [{"key": "a", "operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute"}]
    assert pod["spec"]["restartPolicy"] == "Always", "the API's defaults are there"
    assert pod["status"]["phase"] == "Pending"


def test_json_is_yaml_too() -> None:
    spec = {"containers": [{"name": "c", "image": "img"}]}
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "j", "namespace": "ns"}, "spec": spec})
    assert of(text)["metadata"]["namespace"] == "ns"


def test_another_text_place_or_node_is_another_pod() -> None:
    uids = {of(WEB)["metadata"]["uid"], of(WEB.replace("img", "img:2"))["metadata"]["uid"]}
    uids |= {of(WEB, "/m/b.yaml")["metadata"]["uid"], of(WEB, node="n2")["metadata"]["uid"]}
    assert len(uids) == 4
    assert of(WEB) == of("# a remark" + WEB)
    assert of(WEB.replace("name: web,", "name: web, uid: mine,"))["metadata"]["uid"] == "mine"


@pytest.mark.parametrize(
    ("more", "reference"),
    [
        ("serviceAccountName: x", "serviceaccounts"),
        ("imagePullSecrets: [{name: s}]", "secrets"),
        ("volumes: [{name: v, secret: {secretName: s}}]", "secrets"),
        ("volumes: [{name: v, configMap: {name: s}}]", "configmaps"),
        ("volumes: [{name: v, projected: {sources: [{configMap: {name: s}}]}}]", "configmaps"),
        ("volumes: [{name: v, persistentVolumeClaim: {claimName: s}}]", "persistentvolumeclaims"),
        ("volumes: [{name: v, csi: {driver: d}}]", "csidrivers (via CSI volumes)"),
        ("initContainers: [{name: i, image: i, envFrom: [{secretRef: {name: s}}]}]", "secrets"),
        (
            "initContainers: [{name: i, image: i, env: [{name: A, valueFrom: {configMapKeyRef: {name: s, key: k}}}]}]",
            "configmaps",
        ),
    ],
)
def test_it_needs_nothing_of_the_api(more: str, reference: str) -> None:
    with pytest.raises(BadManifest) as caught:
        of(WEB.replace("spec:\n", f"spec:\n  {more}\n"))
    assert str(caught.value) == f"static pods may not reference {reference}"


def test_what_the_node_has_itself_it_may_use() -> None:
    volumes = "volumes: [{name: a, emptyDir: {}}, {name: b, hostPath: {path: /b}}, {name: c, downwardAPI: {}}]"
    assert len(of(WEB.replace("spec:\n", f"spec:\n  {volumes}\n"))["spec"]["volumes"]) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no kind"),
        ("a: [", "it is no Pod: yaml: "),
        ("[1]", "names no kind"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", "it is no Pod: "),
        ("{apiVersion: v1, kind: Pod, spec: {}}", "name is needed for the pod"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}", "invalid pod: spec.containers: Required value"),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: A_}, spec: {containers: [{name: c, image: i}]}}",
            "metadata.name: Invalid",
        ),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: 7}}", "it is no Pod: "),
    ],
)
def test_what_is_none(text: str, told: str) -> None:
    with pytest.raises(BadManifest, match=told):
        of(text)


async def test_changes_are_heard_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory, seen, changed = tmp_path / "m", [], asyncio.Event()

    def on_change(pods: Mapping[tuple[str, str], Any]) -> None:
        seen.append({name: pod["metadata"]["uid"] for (_, name), pod in pods.items()})
        changed.set()

    async def until(*names: str) -> dict[str, str]:
        async with asyncio.timeout(5):
            while sorted(seen[-1] if seen else ["?"]) != sorted(names):
                await changed.wait()
                changed.clear()
        return dict(seen[-1])

    manifests = Manifests(directory, "n", RealClock(), on_change)
    task = asyncio.get_running_loop().create_task(manifests.run())
    await until()
    (directory / ".hidden.yaml").write_text(WEB)
    (directory / "below").mkdir()
    (directory / "bad.yaml").write_text("kind: Pod")
    (directory / "web.yaml").write_text(WEB)
    first = await until("web-n")
    (directory / "new").write_text(WEB.replace("img", "img:2"))
    (directory / "new").rename(directory / "web.yaml")
    async with asyncio.timeout(5):
        while (await until("web-n")) == first:
            await changed.wait()
            changed.clear()
    (directory / "web.yaml").unlink()
    await until()
    task.cancel()
    await asyncio.wait([task])
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("bad.yaml: it names no kind" in text for text in told) == 1
    assert sum("below: it is no regular file" in text for text in told) == 1
    assert not any("hidden" in text for text in told)

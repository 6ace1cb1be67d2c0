"""What a node does by itself: pods of its own manifests, and pods that it sends away. Source: kubernetes.io "Create static Pods",
"Local ephemeral storage"; both runtimes.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from clusters import SLEEP, Cluster, Kubectl, busybox, pod
from machines import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def test_static_pods_and_pods_that_take_too_much(k: Kubectl, cluster: Cluster) -> None:
    greedy = busybox(f"dd if=/dev/zero of=/v/big bs=1M count=2; {SLEEP}", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    k.apply(pod("greedy", greedy, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]))
    k.ready("greedy")

    manifest = cluster.data / "agent/pod-manifests/web.json"
    spec = pod("web", f"echo started as $HOSTNAME; {SLEEP}")
    spec["metadata"]["namespace"] = k.namespace
    manifest.write_text(json.dumps(spec))
    name = f"web-{cluster.node}"
    eventually(lambda: k.run("get", "pod", name).returncode == 0)
    k.ready(name)
    first = k.get("pod", name)["metadata"]
    (owner,) = first["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Node", cluster.node)
    assert k.exec(name, "hostname") == f"{name}\n"
    assert k("logs", name) == f"started as {name}\n"

    k("delete", "pod", name)

    def again() -> Any:
        found = k.run("get", "pod", name, "-o", "jsonpath={.metadata.uid} {.status.phase}").stdout.split()
        return found and found[0] != first["uid"] and found[1] == "Running"

    eventually(again)
    assert k("logs", name) == f"started as {name}\n", "it never stopped"

    manifest.unlink()
    eventually(lambda: k.run("get", "pod", name).returncode != 0)

    evicted = k.phase("greedy", "Failed")["status"]
    assert (evicted["reason"], evicted["message"]) == ("Evicted", 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ')
    assert "Evicted" in k("get", "events", "--field-selector=involvedObject.name=greedy")

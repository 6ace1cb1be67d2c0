"""What a pod sees and how it lives: volumes, environment, its own API token, init containers, probes, ends, limits."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from clusters import SLEEP, Cluster, Kubectl, busybox, deployment, is_ready, pod, summary
from machines import cgroups_of, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]
LIMITS = ("memory.limit_in_bytes", "memory.max")
"""Where a cgroup says how much memory it may have (v1, v2)."""


def test_configuration_as_the_pod_sees_it(k: Kubectl, cluster: Cluster) -> None:
    k("create", "configmap", "config", "--from-literal=key=one", "--from-literal=other=x")
    k("create", "secret", "generic", "secret", "--from-literal=password=s3cret")
    env = [
        {"name": "LITERAL", "value": "$(KEY) and $$(KEY)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    env.insert(0, {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "key"}}})
    projected = [
        {"configMap": {"name": "config", "items": [{"key": "key", "path": "from/config"}]}},
        {"secret": {"name": "secret"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    volumes = [
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
        {"name": "all", "projected": {"sources": projected}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in ("config", "secret", "all")]
    mounts.append({"name": "config", "mountPath": "/single", "subPath": "other"})
    envfrom = [{"secretRef": {"name": "secret"}, "prefix": "S_"}]
    limits = {"limits": {"memory": "32Mi"}}
    k.apply(
        pod(
            "p",
            busybox(SLEEP, env=env, envFrom=envfrom, volumeMounts=mounts, resources=limits, workingDir="/tmp"),
            labels={"app": "x"},
            volumes=volumes,
        )
    )
    k.ready("p")
    seen = dict(line.split("=", 1) for line in k.exec("p", "env").splitlines())
    wanted = {"KEY": "one", "LITERAL": "one and $(KEY)", "POD": "p", "HOST": cluster.node, "LIMIT": "32"}
    wanted |= {"S_password": "s3cret", "HOSTNAME": "p", "KUBERNETES_SERVICE_HOST": "10.43.0.1"}
    assert wanted.items() <= seen.items()
    assert k.exec(
        "p", "sh", "-c", "cat /config/key /single /secret/password /all/from/config /all/password /all/labels; pwd"
    ) == ('onexs3cretones3cretapp="x"/tmp\n')
    assert k.exec("p", "stat", "-L", "-c", "%a", "/secret/password") == "400\n"
    assert k.run("exec", "p", "--", "sh", "-c", "echo x > /config/key").returncode != 0
    k("patch", "configmap", "config", "-p", '{"data":{"key":"two"}}')
    assert eventually(lambda: k.exec("p", "cat", "/config/key", "/all/from/config") == "twotwo", 90, 0.5)


def test_files_shared_and_kept(k: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("host")
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        {"name": "host", "hostPath": {"path": str(tmp_path), "type": "Directory"}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("shared", "memory", "host")]
    writer = busybox(f"echo hello > /shared/file; cp /host/from-host /host/copy; {SLEEP}", "writer", volumeMounts=mounts)
    k.apply(pod("p", writer, busybox(SLEEP, "reader", volumeMounts=mounts), volumes=volumes))
    k.ready("p")
    assert eventually(lambda: (tmp_path / "copy").exists() and (tmp_path / "copy").read_text() == "host")
    assert k("exec", "p", "-c", "reader", "--", "cat", "/shared/file") == "hello\n"
    assert "tmpfs" in k("exec", "p", "-c", "reader", "--", "mount")
    k("delete", "pod", "p")
    assert (tmp_path / "from-host").read_text() == "host"


def test_a_pod_talks_to_the_api_with_its_own_token(k: Kubectl) -> None:
    k("create", "serviceaccount", "reader")
    k("create", "role", "reader", "--verb=get,list", "--resource=pods")
    k("create", "rolebinding", "reader", "--role=reader", "--serviceaccount", f"{k.namespace}:reader")
    k.apply(pod("p", SLEEP, serviceAccountName="reader"))
    k.ready("p")
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    ask = (
        f'curl -sS -m 5 --cacert {place}/ca.crt -H "Authorization: Bearer $(cat {place}/token)" https://kubernetes.default.svc'
    )

    def get(path: str) -> Any:
        return json.loads(k.exec("p", "sh", "-c", ask + path))

    assert get(f"/api/v1/namespaces/{k.namespace}/pods")["items"][0]["metadata"]["name"] == "p"
    refused = get(f"/api/v1/namespaces/{k.namespace}/secrets")
    assert refused["reason"] == "Forbidden"
    assert f'User "system:serviceaccount:{k.namespace}:reader" cannot list resource "secrets"' in refused["message"]
    assert k.exec("p", "cat", f"{place}/namespace") == k.namespace


def test_init_containers_run_one_after_another(k: Kubectl) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    init = [
        busybox("echo first >> /shared/order; sleep 1", "first", volumeMounts=mounts),
        busybox("echo second >> /shared/order", "second", volumeMounts=mounts),
    ]
    main = busybox("cat /shared/order", volumeMounts=mounts)
    k.apply(pod("p", main, initContainers=init, volumes=[{"name": "shared", "emptyDir": {}}], restartPolicy="Never"))
    found = k.phase("p", "Succeeded")
    assert k("logs", "p") == "first\nsecond\n"
    ended = [status["state"]["terminated"]["reason"] for status in found["status"]["initContainerStatuses"]]
    assert ended == ["Completed", "Completed"]
    k.apply(pod("bad", "true", initContainers=[busybox("exit 1", "init")], restartPolicy="Never"))
    k.phase("bad", "Failed")
    assert "Init:Error" in k("get", "pod", "bad")


def test_probes(k: Kubectl) -> None:
    """A liveness probe that fails restarts, a startup probe holds the others back, a readiness probe tells."""
    web = "mkdir /www; echo ok > /www/up; touch /ready; httpd -p 8080 -h /www; " + SLEEP
    probes: dict[str, Any] = {
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 20},
        "livenessProbe": {"httpGet": {"path": "/up", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2},
        "readinessProbe": {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1},
    }
    k.apply(pod("p", busybox(web, **probes)))
    k.ready("p")
    k.exec("p", "rm", "/ready")
    eventually(lambda: not is_ready(k.get("pod", "p")))
    assert k.get("pod", "p")["status"]["containerStatuses"][0]["restartCount"] == 0
    k.exec("p", "rm", "/www/up")

    def restarted() -> bool:
        status = k.get("pod", "p")["status"]["containerStatuses"][0]
        return status["restartCount"] == 1 and status["ready"]

    assert eventually(restarted, 30)
    said = k("get", "events", "--field-selector=involvedObject.name=p", "-o", "jsonpath={.items[*].message}")
    assert "Liveness probe failed: HTTP probe failed with statuscode: 404" in said
    assert "Container c failed liveness probe, will be restarted" in said


def test_an_orderly_end(k: Kubectl, tmp_path: Path) -> None:
    """preStop first, then SIGTERM, then after the grace period SIGKILL."""
    volumes = [{"name": "host", "hostPath": {"path": str(tmp_path)}}]
    mounts = [{"name": "host", "mountPath": "/host"}]
    polite = busybox(
        "trap 'echo term >> /host/polite; exit 0' TERM; while :; do sleep 0.1; done",
        volumeMounts=mounts,
        lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /host/polite; sleep 1"]}}},
    )
    k.apply(pod("polite", polite, volumes=volumes, terminationGracePeriodSeconds=20))
    k.apply(pod("stubborn", "trap '' TERM; while :; do sleep 0.1; done", terminationGracePeriodSeconds=2))
    k.ready("polite", "stubborn")
    begun = time.monotonic()
    k("delete", "pod", "polite")
    assert time.monotonic() - begun < 10
    assert (tmp_path / "polite").read_text() == "pre\nterm\n"
    begun = time.monotonic()
    k("delete", "pod", "stubborn")
    assert 1.5 < time.monotonic() - begun < 10


def test_resized_in_place(k: Kubectl, cluster: Cluster) -> None:
    """KEP-1287: the container keeps running; its cgroup has the new limit."""
    k.apply(pod("p", busybox(SLEEP, resources={"limits": {"memory": "32Mi"}})))
    k.ready("p")
    before = k.get("pod", "p")
    resources = {"limits": {"memory": "48Mi"}, "requests": {"memory": "48Mi"}}
    wanted = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
    k("patch", "pod", "p", "--subresource=resize", "-p", json.dumps(wanted))

    def status() -> Any:
        found = k.get("pod", "p")["status"]["containerStatuses"][0]
        assert (found["resources"], found["containerID"], found["restartCount"]) == (
            resources,
            before["status"]["containerStatuses"][0]["containerID"],
            0,
        )
        return found

    eventually(status)
    ours = [path for group in cgroups_of([cluster.node]) for path in group.rglob(f"pod{before['metadata']['uid']}/*")]
    limits = [file.read_text().strip() for path in ours for file in path.glob("memory.*") if file.name in LIMITS]
    assert str(48 << 20) in limits
    assert eventually(lambda: "ResizeCompleted" in k("get", "events"))


def test_out_of_memory(k: Kubectl) -> None:
    eat = busybox("x=a; while :; do x=$x$x; done", resources={"limits": {"memory": "16Mi"}})
    k.apply(pod("p", eat, restartPolicy="Never"))
    state = k.phase("p", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)
    assert "OOMKilled" in k("get", "pod", "p")


def test_what_nodes_and_pods_use(k: Kubectl, cluster: Cluster) -> None:
    """`kubectl top`, the kubelet's own pages behind it, and an autoscaler that goes by it."""
    work = busybox("while :; do :; done", resources={"requests": {"cpu": "50m"}, "limits": {"cpu": "200m"}})
    k.apply(deployment("busy", pod("busy", work)))
    [busy] = k.ready_pods("app=busy", 1)

    def used() -> int:
        rows = dict(row.split()[:2] for row in k("top", "pods", "--no-headers").splitlines())
        return int(rows.get(busy["metadata"]["name"], "0m").removesuffix("m"))

    assert eventually(lambda: used() > 50, 60, 5)
    k("autoscale", "deployment", "busy", "--cpu=50%", "--max=2")
    k.ready_pods("app=busy", 2)
    assert re.search(r"\s[0-9]+%/50%\s+1\s+2\s", eventually(lambda: k("get", "hpa", "busy", "--no-headers")))
    assert k("top", "nodes", "--no-headers").split()[0] == cluster.node
    for page in ("resource", "cadvisor"):
        text = k("get", "--raw", f"/api/v1/nodes/{cluster.node}/proxy/metrics/{page}")
        assert any("container_cpu_usage_seconds_total" in line and 'pod="busy-' in line for line in text.splitlines())


def test_what_can_not_be_pulled(k: Kubectl) -> None:
    k.apply(pod("never", busybox("true") | {"image": "e2e.local/none:1", "imagePullPolicy": "Never"}))
    k.apply(pod("none", busybox("true") | {"image": "127.0.0.1:1/none:1"}))

    def waiting(name: str) -> str:
        statuses = k.get("pod", name)["status"].get("containerStatuses") or [{}]
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason"))

    assert eventually(lambda: waiting("never") == "ErrImageNeverPull")
    assert eventually(lambda: waiting("none") in ("ErrImagePull", "ImagePullBackOff"), 30)


def test_two_containers_share_a_pod(k: Kubectl) -> None:
    """One network, each its own files and processes."""
    web = busybox("mkdir /www; echo shared > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www", "web")
    k.apply(pod("p", web, busybox(SLEEP, "other")))
    k.ready("p")
    assert k("exec", "p", "-c", "other", "--", "wget", "-qO-", "http://127.0.0.1:8080/") == "shared\n"
    assert "httpd" not in k("exec", "p", "-c", "other", "--", "ps")
    assert k("exec", "p", "-c", "other", "--", "hostname") == "p\n"
    assert summary(k.get("pod", "p")).startswith("p: Running ready")


def test_security(k: Kubectl, cluster: Cluster) -> None:
    """A seccomp profile of the node; users of a pod's own where the runtime has them (containerd from 2.0 on), else a clear event."""
    profiles = cluster.data / "agent" / "kubelet" / "seccomp"
    profiles.mkdir(exist_ok=True)
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}
    (profiles / "no-mkdir.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    local = {"type": "Localhost", "localhostProfile": "no-mkdir.json"}
    own = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 4000, "supplementalGroups": [5000]}
    volumes = [{"name": "files", "emptyDir": {}}, {"name": "config", "configMap": {"name": "kube-root-ca.crt"}}]
    mounts = [{"name": "files", "mountPath": "/files"}, {"name": "config", "mountPath": "/config"}]
    script = "touch /files/x; stat -c '%u:%g' /files/x; cat /proc/self/uid_map; id -G; head -1 /config/ca.crt; hostname"
    mapped = pod("mapped", busybox(f"{script}; {SLEEP}", volumeMounts=mounts), volumes=volumes, hostUsers=False)
    k.apply(
        pod("seccomp", SLEEP, securityContext={"seccompProfile": local}),
        mapped | {"spec": mapped["spec"] | {"securityContext": own}},
        pod("apparmor", SLEEP, securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}),
    )
    k.ready("seccomp")
    assert "Read-only file system" in k.fails("exec", "seccomp", "--", "mkdir", "/x")
    if not Path("/sys/kernel/security/apparmor").exists():
        assert k.phase("apparmor", "Failed")["status"]["reason"] == "AppArmor"
    features = k.get("node", cluster.node)["status"].get("runtimeHandlers") or [{"features": {}}]
    if features[0]["features"].get("userNamespaces"):
        k.ready("mapped")
        lines = k("logs", "mapped").splitlines()
        assert (lines[0], lines[1].split(), sorted(lines[2].split()), lines[3][:10], lines[4]) == (
            "1000:4000", ["0", "65536", "65536"], ["2000", "3000", "4000", "5000"], "-----BEGIN", "mapped",
        )  # fmt: skip
        [status] = k.get("pod", "mapped")["status"]["containerStatuses"]
        assert status["user"]["linux"] == {"uid": 1000, "gid": 3000, "supplementalGroups": [2000, 3000, 4000, 5000]}
    else:
        assert eventually(lambda: "runtime does not support user namespaces" in k("events", "--for=pod/mapped"))

"""Metrics and health checks over HTTP. The list is that of upstream's metrics of stability STABLE that kube-apiserver, kube-scheduler and
kube-controller-manager have ("Kubernetes Metrics Reference"); docs/metrics.md says what is not here, and why.
"""

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import health, pages
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics, watch_database
from minik8s.base.clock import RealClock
from minik8s.base.pki import new_key
from minik8s.base.tasks import Owner
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

STABLE = """
apiserver_admission_controller_admission_duration_seconds name operation rejected type
apiserver_admission_step_admission_duration_seconds operation rejected type
apiserver_current_inflight_requests request_kind
apiserver_longrunning_requests component group resource scope subresource verb version
apiserver_request_duration_seconds component dry_run group resource scope subresource verb version
apiserver_request_total code component dry_run group resource scope subresource verb version
apiserver_requested_deprecated_apis group removed_release resource subresource version
apiserver_response_sizes component group resource scope subresource verb version
apiserver_storage_objects resource
apiserver_storage_size_bytes storage_cluster_id
cronjob_controller_job_creation_skew_duration_seconds
job_controller_job_pods_finished_total completion_mode result
job_controller_job_sync_duration_seconds action completion_mode result
job_controller_job_syncs_total action completion_mode result
job_controller_jobs_finished_total completion_mode reason result
node_collector_evictions_total zone
scheduler_framework_extension_point_duration_seconds extension_point profile status
scheduler_pending_pods queue
scheduler_pod_scheduling_attempts
scheduler_preemption_attempts_total
scheduler_preemption_victims
scheduler_queue_incoming_pods_total event queue
scheduler_schedule_attempts_total profile result
scheduler_scheduling_attempt_duration_seconds profile result
"""
"""Names and labels of those in /metrics; apiserver_admission_webhook_admission_duration_seconds comes with the first webhook."""
OTHERS = """
apiserver_audit_event_total apiserver_flowcontrol_current_executing_requests apiserver_flowcontrol_nominal_limit_seats
apiserver_request_sli_duration_seconds apiserver_resource_objects apiserver_storage_events_received_total apiserver_watch_events_sizes
apiserver_watch_events_total apiserver_watch_list_duration_seconds authenticated_user_requests authentication_attempts
authentication_duration_seconds authorization_attempts_total etcd_request_duration_seconds etcd_requests_total
kubernetes_build_info process_cpu_seconds_total process_resident_memory_bytes process_start_time_seconds running_managed_controllers
scheduler_pod_scheduling_sli_duration_seconds workqueue_adds_total workqueue_depth workqueue_longest_running_processor_seconds
workqueue_queue_duration_seconds workqueue_retries_total workqueue_unfinished_work_seconds workqueue_work_duration_seconds
"""
"""What dashboards use besides."""
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


@dataclass
class Server:
    plane: ControlPlane
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get("http://server" + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str, /, **labels: str) -> float:
        """The value of one series; 0 where it is not there. The parser gives every counter's name a `_total`."""
        _, text = await self.get("/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    told = Settings(service_networks=[ipaddress.ip_network("10.96.0.0/24")], service_account_key=new_key())
    plane, owner = ControlPlane(MemoryStore(), RealClock(), random.Random(1), told), Owner("test")
    await plane.start_api(owner)
    accounts, probes = plane.authenticator.accounts, health.checks(plane.desk.cache.failure)
    found = pages.pages(probes, plane.metrics, accounts, plane.desk.catalogue, "localhost:6443", resources=plane.pod_resources)
    connect = Connector(plane.desk.reader, plane.tunnels, random.Random(1))
    user = User("someone@example.com", (MASTERS, AUTHENTICATED))
    protocol = HttpFace(plane.desk, lambda _: user, found, connect, RequestMetrics(plane.metrics)).server()
    path = str(tmp_path / "api.sock")
    listener = await asyncio.get_running_loop().create_unix_server(protocol, path)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        yield Server(plane, session)
    listener.close()
    await protocol.shutdown(timeout=0.05)
    await owner.stop()


async def test_what_dashboards_of_the_api_server_ask_for(server: Server) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    async with server.session.post("http://server" + CONFIGMAPS, json=body) as answer:
        assert answer.status == 201
    async with server.session.post("http://server" + CONFIGMAPS + "?dryRun=All", json=body) as answer:
        assert answer.status == 409
    for path in (
        CONFIGMAPS,
        "/api/v1/configmaps",
        CONFIGMAPS + "/a",
        CONFIGMAPS + "/none",
        "/healthz",
        "/api/v1/componentstatuses",
    ):
        await server.get(path)
    common = {
        "component": "apiserver",
        "group": "",
        "version": "v1",
        "resource": "configmaps",
        "subresource": "",
        "dry_run": "",
    }
    total = "apiserver_request_total"
    assert await server.metric(total, verb="POST", scope="resource", code="201", **common) == 1
    assert await server.metric(total, verb="POST", scope="resource", code="409", **(common | {"dry_run": "All"})) == 1
    assert await server.metric(total, verb="LIST", scope="namespace", code="200", **common) == 1
    assert await server.metric(total, verb="LIST", scope="cluster", code="200", **common) == 1
    assert await server.metric(total, verb="GET", scope="resource", code="404", **common) == 1
    assert await server.metric(total, verb="GET", subresource="/healthz", code="200") == 1
    assert await server.metric("apiserver_request_duration_seconds_count", verb="POST", **common) == 1
    assert await server.metric("apiserver_request_sli_duration_seconds_count", verb="POST", resource="configmaps") == 1
    assert await server.metric("apiserver_response_sizes_sum", verb="GET", resource="configmaps") > 100
    assert await server.metric("apiserver_requested_deprecated_apis", resource="componentstatuses") == 1
    assert await server.metric("apiserver_resource_objects", group="", resource="configmaps") == 1
    assert await server.metric("apiserver_storage_objects", resource="configmaps") == 1
    assert await server.metric("apiserver_storage_events_received_total", resource="configmaps") == 1
    assert await server.metric("etcd_request_duration_seconds_count", operation="create", resource="configmaps") == 1
    assert await server.metric("authenticated_user_requests_total", username="email_id") > 5
    assert await server.metric("authentication_attempts_total", result="success") > 5
    step = {"type": "validate", "operation": "CREATE", "rejected": "false"}
    assert await server.metric("apiserver_admission_step_admission_duration_seconds_count", **step) >= 1
    plugin = {"name": "NamespaceLifecycle", "type": "admit", "operation": "CREATE"}
    assert await server.metric("apiserver_admission_controller_admission_duration_seconds_count", **plugin) >= 1
    assert await server.metric("kubernetes_build_info", major="1") == 1


async def test_a_watch_is_long_running_not_in_flight(server: Server) -> None:
    asked = "http://server" + CONFIGMAPS + "?watch=1&allowWatchBookmarks=true&sendInitialEvents=true"
    asked += "&resourceVersionMatch=NotOlderThan"
    async with server.session.get(asked) as answer:
        await answer.content.readline()
        labels = {"verb": "WATCH", "resource": "configmaps", "scope": "namespace"}
        assert await server.metric("apiserver_longrunning_requests", **labels) == 1
        assert await server.metric("apiserver_current_inflight_requests", request_kind="readOnly") == 1  # the scrape itself
        assert await server.metric("apiserver_watch_events_total", resource="configmaps") == 1
        assert await server.metric("apiserver_watch_list_duration_seconds_count", resource="configmaps") == 1


async def test_health_is_told_check_by_check(server: Server) -> None:
    """ "Kubernetes API health endpoints": verbose, exclude, single checks; upstream's names."""
    assert await server.get("/livez") == (200, "ok")
    for path in (
        "/livez/ping",
        "/readyz/etcd",
        "/readyz/informer-sync",
        "/readyz/shutdown",
        "/healthz/autoregister-completion",
    ):
        assert await server.get(path) == (200, "ok")
    for path in ("/livez/shutdown", "/livez/nothing", "/healthz/informer-sync"):
        assert (await server.get(path))[0] == 404
    _, text = await server.get("/readyz?verbose&exclude=etcd&exclude=nonsense")
    lines = text.splitlines()
    assert lines[0] == "[+]ping ok"
    assert "[+]etcd excluded: ok" in lines
    assert "[+]poststarthook/rbac/bootstrap-roles ok" in lines
    assert lines[-2:] == ['warn: some health checks cannot be excluded: no matches for "nonsense"', "readyz check passed"]
    _, text = await server.get("/metrics/slis")
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1' in text
    assert 'kubernetes_healthchecks_total{name="ping",type="readyz",status="success"} 1' in text


REQUIRED = """
start-apiserver-admission-initializer generic-apiserver-start-informers start-apiextensions-informers start-apiextensions-controllers
crd-informer-synced bootstrap-controller start-system-namespaces-controller start-service-ip-repair-controllers storage-readiness
scheduling/bootstrap-system-priority-classes start-cluster-authentication-info-controller start-kube-aggregator-informers
apiservice-registration-controller apiservice-status-local-available-controller apiservice-status-remote-available-controller
kube-apiserver-autoregistration apiservice-openapi-controller
"""


def test_upstreams_test_of_health_finds_what_it_requires() -> None:
    """e2e "health handlers should contain necessary checks"."""
    own = {"healthz": {"etcd"}, "livez": {"etcd"}, "readyz": {"informer-sync"}}
    hooks = {f"poststarthook/{name}" for name in REQUIRED.split()} | {"ping", "log", "autoregister-completion"}
    for probe, found in health.checks(lambda: "").items():
        assert not (hooks | own[probe]) - set(found)


def test_what_is_wrong_is_withheld_but_from_the_single_check() -> None:
    found = health.checks(lambda: "the disk is full")
    assert {name for name, check in found["livez"].items() if check()} == {"etcd"}
    assert {name for name, check in found["readyz"].items() if check()} == {"etcd", "etcd-readiness", "informer-sync"}


JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: a, image: busybox, command: [sh, -c, "sleep 1"], resources: {requests: {cpu: 250m}, limits: {memory: 1Gi}}}
"""


async def test_every_stable_metric_is_there(cluster: Cluster, clock: VirtualClock, tmp_path: Path) -> None:
    plane = cluster.plane
    RequestMetrics(plane.metrics)
    watch_database(plane.metrics, tmp_path / "state.db")
    (tmp_path / "state.db").write_bytes(b"1234")
    await cluster.apply(JOB)
    await clock.settle()
    assert 'resource="cpu",unit="cores"} 0.25' in plane.pod_resources()
    assert 'kube_pod_resource_limit{namespace="default"' in plane.pod_resources()
    known = {family.name: family.labels for family in plane.metrics.families()}
    for line in STABLE.strip().splitlines():
        name, *labels = line.split()
        assert name in known, name
        assert sorted(known[name]) == labels, name
    assert not {name for name in OTHERS.split() if name not in known} - {"apiserver_audit_event_total"}
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(plane.metrics.text())
        for sample in family.samples
    }
    assert found["scheduler_schedule_attempts_total", (("profile", "default-scheduler"), ("result", "scheduled"))] >= 1
    assert found["scheduler_pod_scheduling_attempts_count", ()] >= 1
    assert found["workqueue_adds_total", (("name", "job"),)] >= 1
    assert found["apiserver_storage_size_bytes", (("storage_cluster_id", "state.db"),)] == 4
    syncs = [value for (name, _), value in found.items() if name == "job_controller_job_syncs_total"]
    assert sum(syncs) >= 1


def test_the_page_of_metrics_names_them_all() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name in (*(line.split()[0] for line in STABLE.strip().splitlines()), *OTHERS.split()):
        assert f"`{name}`" in text, name


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_the_parts_as_component_statuses(cluster: Cluster) -> None:
    """v1 ComponentStatus (deprecated): upstream's three parts; one that does not run is not healthy."""
    found = {
        each["metadata"]["name"]: [(c["type"], c["status"], c["message"]) for c in each["conditions"]]
        for each in await cluster.all("componentstatuses")
    }
    assert found == {
        "controller-manager": [("Healthy", "True", "ok")],
        "etcd-0": [("Healthy", "True", "ok")],
        "scheduler": [("Healthy", "False", "not running in this server")],
    }
